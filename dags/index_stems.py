"""
Index the stems that have landed, one line a stem, for programs that train on them, play them or check them.

Airflow runs it when a catalogue's DAG has landed stems and updated the asset ``separated_stems``. Airflow may
deliver an asset event twice, or together with the next one, so an event only triggers the run: the task
indexes every run report that is newer than its part of the index, ``{destination}/_index/``.

To read the whole index: ``duckdb -c "FROM 's3://stems/catalogue/_index/**/*.jsonl'"``.

Needs the connection ``aws_default`` (the object storage).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import DAG, Asset, task

from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.runs.report import BatchReport
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from datetime import datetime

STEMS = Asset("separated_stems")

#: Path of a run report in the folder of runs: ``{dag}/{run}/{task}/{map index}.jsonl``.
REPORT = re.compile(r".*/\d{5,}\.jsonl")


def read_object(uri: str) -> str:
    """Return the text of an object."""
    bucket, key = S3Hook.parse_s3_url(uri)
    return S3Hook().read_key(key, bucket)


def list_folder(folder: str) -> dict[str, datetime]:
    """Return when each object of a folder was last written, by its path in the folder."""
    bucket, prefix = S3Hook.parse_s3_url(folder)
    found = S3Hook().get_file_metadata(prefix, bucket)
    return {item["Key"].removeprefix(prefix): item["LastModified"] for item in found}


def write_part(path: str, manifests: list[str]) -> int:
    """Write a part of the index, a line for each stem in some manifests; return the number of stems."""
    parsed = [Manifest.from_json(read_object(uri), where=uri) for uri in manifests]
    lines = [
        json.dumps({"track": manifest.track["key"], **stem.model_dump(mode="json")}) + "\n"
        for manifest in parsed
        for stem in manifest.stems
    ]
    bucket, key = S3Hook.parse_s3_url(path)
    S3Hook().load_string("".join(lines), key, bucket, replace=True)
    return len(lines)


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
        """Update the index; return the number of stems in each part that was written."""
        written = {}
        landed = [event.extra for events in triggering_asset_events.values() for event in events]
        for destination in {extra["destination"] for extra in landed}:
            runs, parts = f"{Location.parse(destination).runs.uri}/", f"{destination}/_index/"
            done = list_folder(parts)
            for path, changed in list_folder(runs).items():
                if REPORT.fullmatch(path) and (path not in done or done[path] <= changed):
                    report = BatchReport.from_jsonl(read_object(runs + path).encode(), where=runs + path)
                    new = [row.manifest for row in report.rows.values() if row.manifest and not row.before]
                    written[parts + path] = write_part(parts + path, new)
        for extra in landed:
            if "manifest" in extra:
                track = extra["manifest"].removeprefix(extra["destination"]).removesuffix("/manifest.json")
                part = f"{extra['destination']}/_index/tracks{track}.jsonl"
                written[part] = write_part(part, [extra["manifest"]])
        return written

    index()
