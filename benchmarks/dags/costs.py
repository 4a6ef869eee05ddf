"""The same catalogue three ways: the chain that people build from general operators, one task a track, and batches."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, PokeReturnValue, task

from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import (
    VocalSeparationBatchOperator,
    VocalSeparationOperator,
)

SUBMIT = "/api/v1/vocal-removal/generate"
READ = "/api/v1/vocal-removal/record-info"

common: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "max_active_tasks": 2000,
    "render_template_as_native_obj": True,
    "params": {
        "tracks": Param(1, type="integer"),
        "start": 0,
        "chunk_size": 200,
        "destination": "s3://stems/x",
        "poll_interval": None,
        "linger": 120,
    },
}


def numbered(tracks: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"key": f"track-{n:06}", "task_id": f"{n:032x}", "audio_id": f"{n:08x}-0000-4000-8000-000000000000"}
        for n in range(start, start + tracks)
    ]


with DAG("single", **common):

    @task
    def plan_single(params: dict[str, Any]) -> list[dict[str, str]]:
        return numbered(params["tracks"], params["start"])

    VocalSeparationOperator.partial(
        task_id="separate",
        destination="{{ params.destination }}",
        poll_interval="{{ params.poll_interval }}",
    ).expand(track=plan_single())

with DAG("batch", **common):

    @task
    def plan_batch(params: dict[str, Any]) -> list[dict[str, str]]:
        return numbered(params["tracks"], params["start"])

    planned = PlanCatalogueOperator(
        task_id="plan",
        catalogue=plan_batch(),
        destination="{{ params.destination }}",
        chunk_size="{{ params.chunk_size }}",
    )
    VocalSeparationBatchOperator.partial(
        task_id="separate",
        map_index_template="{{ task.label }}",
        destination="{{ params.destination }}",
        poll_interval="{{ params.poll_interval }}",
        adoption_grace=20,
        on_lost_submit="resubmit",
        retries=50,
        retry_delay=timedelta(seconds=1),
    ).expand(tracks=planned.output)

try:
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
    from airflow.providers.http.operators.http import HttpOperator
    from airflow.providers.http.sensors.http import HttpSensor
except ImportError:
    HttpOperator = None

if HttpOperator is not None:

    def is_done(response: Any) -> PokeReturnValue:
        data = response.json()["data"]
        done = bool(data and data["response"] and data["response"].get("vocalUrl"))
        return PokeReturnValue(is_done=done, xcom_value=data["response"] if done else None)

    def by_task(vendor_task_id: str) -> dict[str, str]:
        return {"taskId": vendor_task_id}

    def vocals(response: dict[str, Any]) -> dict[str, str]:
        path = "/s/" + response["vocalUrl"].rsplit("/s/", 1)[1]
        return {"endpoint": path, "s3_key": f"peer{path}"}

    def instrumental(response: dict[str, Any]) -> dict[str, str]:
        path = "/s/" + response["instrumentalUrl"].rsplit("/s/", 1)[1]
        return {"endpoint": path, "s3_key": f"peer{path}"}

    with DAG("peer", **common):

        @task
        def plan_peer(params: dict[str, Any]) -> list[str]:
            return [
                json.dumps(
                    {
                        "taskId": track["task_id"],
                        "audioId": track["audio_id"],
                        "type": "separate_vocal",
                        "callBackUrl": "https://callback.invalid/x",
                    }
                )
                for track in numbered(params["tracks"], params["start"])
            ]

        submit = HttpOperator.partial(
            task_id="submit",
            http_conn_id="vendor_http",
            endpoint=SUBMIT,
            method="POST",
            headers={"Content-Type": "application/json"},
            response_filter=lambda response: response.json()["data"]["taskId"],
        ).expand(data=plan_peer())
        # Deferrable, it cannot look into an answer (http provider: "deferrable" is ignored with a response_check).
        wait = HttpSensor.partial(
            task_id="wait",
            http_conn_id="vendor_http",
            endpoint=READ,
            method="GET",
            response_check=is_done,
            poke_interval=1,
        ).expand(request_params=submit.output.map(by_task))
        HttpToS3Operator.partial(
            task_id="land", http_conn_id="vendor_http", s3_bucket="stems", replace=True
        ).expand_kwargs(wait.output.map(vocals).concat(wait.output.map(instrumental)))
