"""A catalogue in batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from cost_common import COMMON, numbered

from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator

with DAG("batch", **COMMON):

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
        vocalsep_conn_id="{{ params.conn_id }}",
        poll_interval="{{ params.poll_interval }}",
        adoption_grace=20,
        on_lost_submit="resubmit",
        retries=50,
        retry_delay=timedelta(seconds=1),
    ).expand(tracks=planned.output)
