"""
Separate every track of a catalogue in one mapped task each, labelled with the track's title.

The catalogue is a CSV file (columns ``key``, ``task_id``, ``audio_id`` or ``audio_url``, and optionally
``title``, ``duration``) or JSON Lines with the same fields. A second run does not pay again for tracks that
have landed.

Needs the connections ``vocalsep_default`` (the vendor's API key) and ``aws_default`` (the object storage).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param, task

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

with DAG(
    dag_id="separate_catalogue",
    description="Separate every track of a catalogue and land its stems.",
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
            "separate_vocal", enum=["separate_vocal", "split_stem"], description="Into which stems."
        ),
        "bad_rows": Param(
            "fail", enum=["fail", "skip"], description="Whether a bad row stops the run or is skipped."
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
        """Read the catalogue; errors name each bad row with its line."""
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
