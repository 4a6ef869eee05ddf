"""A batch with callbacks, killed on purpose."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param
from killed import Killed

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator


class KilledBatchOperator(Killed, VocalSeparationBatchOperator):
    template_fields = (*VocalSeparationBatchOperator.template_fields, "moment")

    def __init__(self, *, moment: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moment = moment


with DAG(
    "batches",
    schedule=None,
    catchup=False,
    params={
        "tracks": Param([], type="array"),
        "destination": "",
        "moment": "",
        "conn_id": "vocalsep_callbacks",
        "adoption_grace": 120,
        "poll_interval": None,
    },
    render_template_as_native_obj=True,
):
    KilledBatchOperator(
        task_id="separate",
        tracks="{{ params.tracks }}",
        destination="{{ params.destination }}",
        moment="{{ params.moment }}",
        vocalsep_conn_id="{{ params.conn_id }}",
        adoption_grace="{{ params.adoption_grace }}",
        poll_interval="{{ params.poll_interval }}",
        linger=3,
        parallel=2,
        retries=1,
        retry_delay=1,
    )
