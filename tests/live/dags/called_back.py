"""A single track with callbacks: only a callback, or a poll five minutes later, ends its wait."""

from __future__ import annotations

from airflow.sdk import DAG, Param
from killed import KilledOperator

with DAG(
    "called_back",
    schedule=None,
    catchup=False,
    params={
        "track": Param({}, type="object"),
        "destination": "",
        "moment": "",
        "conn_id": "vocalsep_callbacks",
        "on_lost_submit": "adopt",
        "adoption_grace": 120,
        "poll_interval": None,
    },
    render_template_as_native_obj=True,
):
    KilledOperator(
        task_id="separate",
        track="{{ params.track }}",
        destination="{{ params.destination }}",
        moment="{{ params.moment }}",
        vocalsep_conn_id="{{ params.conn_id }}",
        on_lost_submit="{{ params.on_lost_submit }}",
        adoption_grace="{{ params.adoption_grace }}",
        poll_interval="{{ params.poll_interval }}",
        retries=1,
        retry_delay=1,
    )
