"""Many tracks at once, each noting when its task goes on after the wait."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, task

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TimedSeparationOperator(VocalSeparationOperator):
    """Notes the moment at which ``execute_complete`` is entered, in a file named after the vendor task."""

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        now = time.time()
        vendor_task_id = (event or {}).get("vendor_task_id", "unknown")
        with (Path(os.environ["VOCALSEP_BENCH_TIMES"]) / vendor_task_id).open("a") as file:
            file.write(f"{now}\n")
        return super().execute_complete(context, event, **kwargs)


with DAG(
    "woken",
    schedule=None,
    catchup=False,
    max_active_tasks=2000,
    params={
        "tracks": Param(1, type="integer"),
        "conn_id": "vocalsep_default",
        "destination": "",
        "poll_interval": None,
    },
    render_template_as_native_obj=True,
):

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, str]]:
        return [
            {
                "key": f"track-{n:05}",
                "task_id": f"{n:032x}",
                "audio_id": f"{n:08x}-0000-4000-8000-000000000000",
            }
            for n in range(params["tracks"])
        ]

    TimedSeparationOperator.partial(
        task_id="separate",
        destination="{{ params.destination }}",
        vocalsep_conn_id="{{ params.conn_id }}",
        poll_interval="{{ params.poll_interval }}",
        retries=0,
    ).expand(track=plan())
