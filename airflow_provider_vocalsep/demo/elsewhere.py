"""
The demo over a stack that runs already: the service ``demo`` of ``docker-compose.yaml``.

It finds the vendor and the object storage where Airflow does, in ``AIRFLOW_CONN_VOCALSEP_DEFAULT`` and
``AIRFLOW_CONN_AWS_DEFAULT``, and Airflow at ``VOCALSEP_DEMO_AIRFLOW``.
"""

from __future__ import annotations

import json
import os
import sys
import time

from rich.console import Console

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.demo.airflow_api import AirflowApi, AirflowApiError
from airflow_provider_vocalsep.demo.display import Display
from airflow_provider_vocalsep.demo.processes import ServiceError, wait_until
from airflow_provider_vocalsep.demo.seaweed import s3_client
from airflow_provider_vocalsep.demo.songs_run import DAG_ID, SongsRun, all_landed, tell
from airflow_provider_vocalsep.sandbox.server import RunningSandbox

#: Seconds that a new Airflow has until it has parsed the DAG.
PATIENCE = 120


def main() -> int:
    """
    Have the sandbox's songs separated, and show what landed.

    :return: Exit code: 0 if every track landed.
    """
    started = time.monotonic()
    console = Console()
    vendor = json.loads(os.environ["AIRFLOW_CONN_VOCALSEP_DEFAULT"])
    storage = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    airflow = AirflowApi(os.environ["VOCALSEP_DEMO_AIRFLOW"], "admin", os.environ["AIRFLOW_PASSWORD"])
    songs = SongsRun(
        airflow,
        RunningSandbox(vendor["host"], vendor["password"]),
        s3_client(storage["extra"]["endpoint_url"], storage["login"], storage["password"]),
        console,
        Display(console, started),
    )
    try:
        wait_until(lambda: airflow.has_dag(DAG_ID), what=f"DAG {DAG_ID}", timeout=PATIENCE, every=1)
        report = songs.separate(SeparationType.SEPARATE_VOCAL.value, started)
    except (ServiceError, AirflowApiError) as e:
        console.print(f"Not done: {e}", style="bold red", markup=False)
        return 1
    tell(console, report)
    console.print(
        f"Airflow: http://localhost:8080/dags/{DAG_ID}, user admin, the password is AIRFLOW_PASSWORD in .env."
    )
    return 0 if all_landed(report) else 1


if __name__ == "__main__":
    sys.exit(main())
