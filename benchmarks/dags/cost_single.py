"""A catalogue with one Airflow task a track."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task
from cost_common import COMMON, numbered

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

with DAG("single", **COMMON):

    @task
    def plan_single(params: dict[str, Any]) -> list[dict[str, str]]:
        return numbered(params["tracks"], params["start"])

    VocalSeparationOperator.partial(
        task_id="separate",
        destination="{{ params.destination }}",
        vocalsep_conn_id="{{ params.conn_id }}",
        poll_interval="{{ params.poll_interval }}",
    ).expand(track=plan_single())
