"""
Separate a catalogue of any size, hundreds of tracks in one Airflow task.

The first task cuts the catalogue (CSV, TSV, JSON Lines or Parquet) into chunks. For each chunk, a mapped task
submits the tracks at the vendor's rate, waits without a worker, and lands the stems. A second run does not
pay again for tracks that have landed.

Needs the connections ``vocalsep_default`` (the vendor's API key) and ``aws_default`` (the object storage).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator

with DAG(
    dag_id="separate_large_catalogue",
    description="Separate a catalogue of any size, hundreds of tracks in one task.",
    schedule=None,
    catchup=False,
    tags=["vocalsep"],
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "catalogue": Param("s3://stems/catalogue.csv", type="string", description="The catalogue."),
        "destination": Param(
            "s3://stems/catalogue", type="string", pattern="^s3://", description="Where stems land."
        ),
        "separation_type": Param(
            "separate_vocal", enum=["separate_vocal", "split_stem"], description="Into which stems."
        ),
        "chunk_size": Param(200, type="integer", minimum=1, description="Tracks in one Airflow task."),
        "bad_rows": Param(
            "fail", enum=["fail", "skip"], description="Whether a bad row stops the run or is skipped."
        ),
        "only_new": Param(False, type="boolean", description="Leave out tracks that have landed."),
        "max_failed": Param(
            0,
            type="number",
            minimum=0,
            description="Tracks of a chunk that may fail: a count, or below 1 a share.",
        ),
        "poll_interval": Param(
            None,
            type=["number", "null"],
            minimum=1,
            description="Seconds between status reads. Empty: 30, or 300 where the vendor calls back.",
        ),
    },
) as dag:
    plan = PlanCatalogueOperator(
        task_id="plan",
        catalogue="{{ params.catalogue }}",
        destination="{{ params.destination }}",
        separation_type="{{ params.separation_type }}",
        chunk_size="{{ params.chunk_size }}",
        bad_rows="{{ params.bad_rows }}",
        only_new="{{ params.only_new }}",
    )
    VocalSeparationBatchOperator.partial(
        task_id="separate",
        map_index_template="{{ task.label }}",
        outlets=[Asset("separated_stems")],
        destination="{{ params.destination }}",
        separation_type="{{ params.separation_type }}",
        max_failed="{{ params.max_failed }}",
        poll_interval="{{ params.poll_interval }}",
    ).expand(tracks=plan.output)
