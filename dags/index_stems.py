"""
Index the stems that have landed: one line a stem, for whatever trains on them, plays them or checks them.

Runs by itself when a catalogue's DAG has landed something: those announce it by the asset ``separated_stems``. Writes
``{destination}/_index/{DAG run}.{map index}.jsonl`` of the task that landed them, so an event that comes twice changes nothing;
``duckdb -c "FROM 's3://stems/catalogue/_index/*.jsonl'"`` reads all of them.

Needs the connection ``aws_default`` (the object storage).
"""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import DAG, Asset, task

from airflow_provider_vocalsep.jobs.report import BatchReport
from airflow_provider_vocalsep.landing.keys import safe_key
from airflow_provider_vocalsep.landing.manifest import Manifest

STEMS = Asset("separated_stems")


def read(uri: str) -> str:
    """Read an object."""
    bucket, key = S3Hook.parse_s3_url(uri)
    return S3Hook().read_key(key, bucket)


def manifests(landed: dict[str, Any]) -> list[str]:
    """Return the manifests of what an event says is new: that of a track, or those that a batch's report names."""
    if not landed["new"]:
        return []
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
    def index(triggering_asset_events: Any) -> dict[str, int]:
        """Write a file for each event that something new landed; return each one's number of stems."""
        written = {}
        for event in (event for events in triggering_asset_events.values() for event in events):
            lines = [
                json.dumps({"track": manifest.track["key"], **stem.model_dump(mode="json")}) + "\n"
                for manifest in (Manifest.from_json(read(uri), where=uri) for uri in manifests(event.extra))
                for stem in manifest.stems
            ]
            if lines:
                name = f"{safe_key(event.source_run_id)}.{max(event.source_map_index, 0)}.jsonl"
                bucket, key = S3Hook.parse_s3_url(f"{event.extra['destination']}/_index/{name}")
                S3Hook().load_string("".join(lines), key, bucket, replace=True)
                written[name] = len(lines)
        return written

    index()
