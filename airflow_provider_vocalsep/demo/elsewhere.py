"""
The demo in a stack that runs already: the service ``demo`` of ``docker-compose.yaml``.

It reads the connections of vendor and object storage from ``AIRFLOW_CONN_VOCALSEP_DEFAULT`` and
``AIRFLOW_CONN_AWS_DEFAULT``, as Airflow does, and the address of Airflow from ``VOCALSEP_DEMO_AIRFLOW``.
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
from airflow_provider_vocalsep.demo.songs_run import DAG_ID, SongsRun, all_landed, show_report
from airflow_provider_vocalsep.sandbox.server import RunningSandbox
from airflow_provider_vocalsep.storage.clients import client_with_keys
from airflow_provider_vocalsep.storage.store import ObjectStore

#: Seconds that a new Airflow has to parse the DAG.
DAG_TIMEOUT = 120


def main() -> int:
    """Separate the sandbox's songs, show what landed, and return the exit code: 0 if every track landed."""
    started = time.monotonic()
    console = Console()
    vendor = json.loads(os.environ["AIRFLOW_CONN_VOCALSEP_DEFAULT"])
    storage = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    airflow = AirflowApi(os.environ["VOCALSEP_DEMO_AIRFLOW"], "admin", os.environ["AIRFLOW_PASSWORD"])
    client = client_with_keys(storage["extra"]["endpoint_url"], storage["login"], storage["password"])
    songs = SongsRun(
        airflow,
        RunningSandbox(vendor["host"], vendor["password"]),
        ObjectStore(client),
        console,
        Display(console, started),
    )
    try:
        wait_until(lambda: airflow.has_dag(DAG_ID), what=f"DAG {DAG_ID}", timeout=DAG_TIMEOUT, every=1)
        report = songs.separate(SeparationType.SEPARATE_VOCAL.value, started)
    except (ServiceError, AirflowApiError) as e:
        console.print(f"Not done: {e}", style="bold red", markup=False)
        return 1
    show_report(console, report)
    console.print(
        f"Airflow: http://localhost:8080/dags/{DAG_ID}, user admin, password: AIRFLOW_PASSWORD in .env."
    )
    return 0 if all_landed(report) else 1


if __name__ == "__main__":
    sys.exit(main())
