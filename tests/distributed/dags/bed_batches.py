"""A numbered catalogue, separated in batches over all workers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator

with DAG(
    "bed_batches",
    schedule=None,
    catchup=False,
    max_active_tasks=1000,
    render_template_as_native_obj=True,
    params={
        "name": Param("track", description="First part of each track's key, task id and audio id."),
        "tracks": Param(1, type="integer"),
        "start": 0,
        "chunk_size": 10,
        "destination": "s3://stems/x",
        "conn_id": "vocalsep_quick",
        "poll_interval": None,
        # A submit that the vendor accepted is adopted from its callback; one that was not sent is repeated.
        "on_lost_submit": "resubmit",
        "timeout": 3600,
    },
):

    @task(retries=20, retry_delay=timedelta(seconds=1))
    def chunks(params: dict[str, Any]) -> list[list[dict[str, str]]]:
        tracks = [
            {
                "key": f"{params['name']}-{n:06}",
                "task_id": f"{params['name']}-task-{n:06}",
                "audio_id": f"{params['name']}-audio-{n:06}",
            }
            for n in range(params["start"], params["start"] + params["tracks"])
        ]
        return [tracks[n : n + params["chunk_size"]] for n in range(0, len(tracks), params["chunk_size"])]

    VocalSeparationBatchOperator.partial(
        task_id="separate",
        destination="{{ params.destination }}",
        vocalsep_conn_id="{{ params.conn_id }}",
        poll_interval="{{ params.poll_interval }}",
        on_lost_submit="{{ params.on_lost_submit }}",
        timeout="{{ params.timeout }}",
        adoption_grace=20,
        linger=3,
        retries=20,
        retry_delay=timedelta(seconds=1),
    ).expand(tracks=chunks())
