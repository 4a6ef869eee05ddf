"""
Index the stems that have landed: one line a stem, for whatever trains on them, plays them or checks them.

Runs by itself when a catalogue's DAG has landed something: those announce it by the asset alias ``separated_stems``. Writes
``{destination}/_index/{run}.jsonl``; ``duckdb -c "FROM 's3://stems/catalogue/_index/*.jsonl'"`` reads all of them.

Needs the connection ``aws_default`` (the object storage).
"""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import DAG, AssetAlias, task

from airflow_provider_vocalsep.jobs.report import BatchReport
from airflow_provider_vocalsep.landing.keys import safe_key
from airflow_provider_vocalsep.landing.manifest import Manifest

STEMS = AssetAlias("separated_stems")


def read(uri: str) -> str:
    """Read an object."""
    bucket, key = S3Hook.parse_s3_url(uri)
    return S3Hook().read_key(key, bucket)


def manifests(landed: dict[str, Any]) -> list[str]:
    """Return the manifests that an event is about: that of a track, or those that a batch's report names."""
    if "manifest" in landed:
        return [landed["manifest"]]
    report = BatchReport.from_jsonl(read(landed["report"]).encode(), where=landed["report"])
    return [row.manifest for row in report.rows.values() if row.manifest and not row.before]


with DAG(
    dag_id="index_stems",
    description="Index stems as they land.",
    schedule=STEMS,
    catchup=False,
    tags=["vocalsep"],
    doc_md=__doc__,
) as dag:

    @task
    def index(run_id: str, triggering_asset_events: Any) -> dict[str, int]:
        """Write one file for each destination; return its number of stems."""
        lines: dict[str, list[str]] = {}
        for events in triggering_asset_events.values():
            for event in events:
                for uri in manifests(event.extra):
                    manifest = Manifest.from_json(read(uri), where=uri)
                    lines.setdefault(event.extra["destination"], []).extend(
                        json.dumps({"track": manifest.track["key"], **stem.model_dump(mode="json")})
                        for stem in manifest.stems
                    )
        for destination, found in lines.items():
            bucket, prefix = S3Hook.parse_s3_url(destination + "/_index")
            S3Hook().load_string(
                "\n".join(found) + "\n", f"{prefix}/{safe_key(run_id)}.jsonl", bucket, replace=True
            )
        return {destination: len(found) for destination, found in lines.items()}

    index()
