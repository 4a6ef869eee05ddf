"""A bucket with runs in it, written as the operators write them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest
from airflow_provider_vocalsep.ledger import (
    Identity,
    Intent,
    Landing,
    Ledger,
    S3LedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.runs.listing import Destination, folder_of
from airflow_provider_vocalsep.runs.report import BatchReport, RowState, TrackRow
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "stems"
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
AUDIO = bytes(range(256)) * 40

#: Names that break pages: markup, another direction, no letters at all, very long.
HOSTILE = {
    "<script>alert(1)</script>": "<img src=x onerror=alert(1)>",
    "rtl": "أغنية ‮gnos",
    "🎵/🎤": "🎵🎤",
    "long": "x" * 300,
    "quote'\"": "a&b=c#d?e%2F",
}


class Bucket:
    """
    Writes runs.

    :param client: Its client; the bucket is there.
    :param prefix: The destination's.
    """

    def __init__(self, client: S3Client, prefix: str = "music") -> None:
        self.client = client
        self.destination = Destination(BUCKET, prefix)

    @property
    def uri(self) -> str:
        return self.destination.uri

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body, **more)

    def report_key(self, asker: TaskInstanceRef) -> str:
        folder = f"{folder_of(asker.dag_id, asker.run_id)}/{safe_key(asker.task_id)}"
        return f"{self.destination.runs}{folder}/{max(asker.map_index, 0):05}.jsonl"

    def report(
        self, asker: TaskInstanceRef, rows: list[TrackRow], *, concluded: bool = True, **head: Any
    ) -> None:
        body = BatchReport(rows, concluded=concluded).to_jsonl(**asker.model_dump(), **head)
        self.put(self.report_key(asker), body)

    def plan(self, asker: TaskInstanceRef, first: int, last: int) -> None:
        folder = f"{folder_of(asker.dag_id, asker.run_id)}/plan"
        self.put(f"{self.destination.runs}{folder}/tracks-{first:06}-{last:06}.jsonl", b"{}\n")

    def land(self, asker: TaskInstanceRef, key: str, title: str | None = None, **changes: Any) -> TrackRow:
        """Land a track with two stems, its manifest and its ledger entry, and return its row."""
        place = Location.parse(self.uri).stems(key, SeparationType.SEPARATE_VOCAL)
        ledger = Ledger(
            S3LedgerStore(self.client, BUCKET, f"{self.destination.prefix}/_vocalsep/ledger".strip("/")),
            now=lambda: NOW,
        )
        identity = Identity("sunoapi", f"task/{key}", SeparationType.SEPARATE_VOCAL)
        ledger.claim(identity, Intent("attempt", asker, key, title=title))
        ledger.record_submitted(identity, "attempt", f"vendor-{key}")
        stems = []
        for name in ("vocals", "instrumental"):
            where = place.stem_key(name, "mp3")
            self.put(where, AUDIO, ContentType="audio/mpeg")
            stems.append(
                LandedStem(
                    name=name,
                    uri=place.uri_of(where),
                    bytes=len(AUDIO),
                    sha256="0" * 64,
                    content_type="audio/mpeg",
                )
            )
        manifest = Manifest(
            track={"key": key, "title": title},
            separation_type=SeparationType.SEPARATE_VOCAL,
            dialect="sunoapi",
            vendor_task_id=f"vendor-{key}",
            landed_at=NOW,
            stems=tuple(stems),
            uri=place.manifest_uri,
            asked_by=asker.model_dump(),
        )
        self.put(place.manifest_key, manifest.to_json())
        landing = Landing(at=NOW, vendor_task_id=f"vendor-{key}", stems=2, bytes=2 * len(AUDIO))
        ledger.record_landed(identity, place.manifest_uri, landing, asker)
        row = TrackRow(
            track=key, title=title, state=RowState.LANDED, vendor_task_id=f"vendor-{key}", submits=1, stems=2,
            bytes=2 * len(AUDIO), manifest=place.manifest_uri, entry=ledger.uri_of(identity),
        )  # fmt: skip
        return row.model_copy(update=changes)


def asker(dag_id: str = "open", run_id: str = "manual__1", map_index: int = -1) -> TaskInstanceRef:
    return TaskInstanceRef(
        dag_id=dag_id, run_id=run_id, task_id="separate", map_index=map_index, try_number=1
    )


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.decode().splitlines()]
