"""
Separate the track in the trigger form.

Needs the connections ``vocalsep_default`` (the vendor's API key) and ``aws_default`` (the object storage).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

with DAG(
    dag_id="separate_track",
    description="Separate one track and land its stems.",
    schedule=None,
    catchup=False,
    tags=["vocalsep"],
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "key": Param("my-track", type="string", minLength=1, description="Your own name for the track."),
        "task_id": Param(None, type=["null", "string"], description="Vendor task id of a generated track."),
        "audio_id": Param(None, type=["null", "string"], description="Vendor audio id inside that task."),
        "audio_url": Param(
            None,
            type=["null", "string"],
            description="Instead of both ids: an own file, https:// or s3://, at most 20 MB.",
        ),
        "separation_type": Param(
            "separate_vocal",
            enum=["separate_vocal", "split_stem", "split_stem_advanced"],
            description="Vocals and instrumental, up to twelve stems, or one named stem.",
        ),
        "stem_name": Param(
            None, type=["null", "string"], description="Only for split_stem_advanced, for example Lead Vocal."
        ),
        "destination": Param(
            "s3://stems/tracks", type="string", pattern="^s3://", description="Where stems land."
        ),
        "poll_interval": Param(
            None,
            type=["number", "null"],
            minimum=1,
            description="Seconds between status reads. Empty: 30, or 300 where the vendor calls back.",
        ),
    },
    render_template_as_native_obj=True,
) as dag:
    VocalSeparationOperator(
        task_id="separate",
        track={
            "key": "{{ params.key }}",
            "task_id": "{{ params.task_id }}",
            "audio_id": "{{ params.audio_id }}",
            "audio_url": "{{ params.audio_url }}",
        },
        separation_type="{{ params.separation_type }}",
        stem_name="{{ params.stem_name }}",
        destination="{{ params.destination }}",
        poll_interval="{{ params.poll_interval }}",
    )
