"""
Separate every track of a catalogue, one mapped task a track, labelled with its title.

The catalogue is a CSV file (columns ``key``, ``task_id``, ``audio_id`` or ``audio_url``, and optionally ``title``,
``duration``) or JSON Lines with the same fields. Running it again pays for nothing that landed before.

Needs the connections ``vocalsep_default`` (the vendor's API key) and ``aws_default`` (the object storage).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param, task

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

with DAG(
    dag_id="separate_catalogue",
    description="Have every track of a catalogue separated and its stems landed.",
    schedule=None,
    catchup=False,
    tags=["vocalsep"],
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "catalogue": Param(
            "s3://stems/catalogue.csv", type="string", description="The catalogue, CSV or JSON Lines."
        ),
        "destination": Param(
            "s3://stems/catalogue", type="string", pattern="^s3://", description="Where stems land."
        ),
        "separation_type": Param(
            "separate_vocal", enum=["separate_vocal", "split_stem"], description="What into."
        ),
        "bad_rows": Param(
            "fail", enum=["fail", "skip"], description="Whether a row that cannot be used stops the run."
        ),
        "poll_interval": Param(
            None,
            type=["number", "null"],
            minimum=1,
            description="Seconds between status reads. Empty: 30, or 300 where the vendor calls back.",
        ),
    },
) as dag:

    @task
    def read_tracks(params: dict | None = None) -> list[dict]:
        """Read the catalogue; a bad row is named with its line."""
        from airflow_provider_vocalsep.operators.catalogue import load_tracks

        return load_tracks(params["catalogue"], aws_conn_id="aws_default", bad_rows=params["bad_rows"])

    VocalSeparationOperator.partial(
        task_id="separate",
        map_index_template="{{ task.label }}",
        outlets=[Asset("separated_stems")],
        separation_type="{{ params.separation_type }}",
        destination="{{ params.destination }}",
        poll_interval="{{ params.poll_interval }}",
    ).expand(track=read_tracks())
