"""A catalogue by the chain that people build from general operators."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, PokeReturnValue, task
from cost_common import COMMON, numbered

SUBMIT = "/api/v1/vocal-removal/generate"
READ = "/api/v1/vocal-removal/record-info"


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


with DAG("peer", **COMMON):

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
    # Deferrable, it cannot look into an answer (http provider: "deferrable" is ignored with a
    # response_check).
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
