"""What a demo run achieved, read from where it counts: the bucket and the vendor's books."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.landing.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mypy_boto3_s3 import S3Client

#: Columns of the catalogue file.
COLUMNS = ("key", "title", "task_id", "audio_id", "duration")


@dataclass(frozen=True)
class Totals:
    """
    The vendor's accounts at one moment.

    :param submits: Separations that were accepted.
    :param credits: Credits that were charged.
    """

    submits: int
    credits: float

    @classmethod
    def read(cls, books: dict[str, Any]) -> Totals:
        """Read the answer of ``GET /sandbox/books``."""
        return cls(submits=books["submits"], credits=books["credits_charged"])

    def __sub__(self, before: Totals) -> Totals:
        return Totals(self.submits - before.submits, self.credits - before.credits)


def catalogue_file(songs: Iterable[dict[str, Any]]) -> bytes:
    """
    Write a catalogue of the sandbox's songs.

    :param songs: The answer of ``GET /sandbox/catalogue``.
    :return: A CSV file with :data:`COLUMNS`.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    rows.writeheader()
    rows.writerows(songs)
    return text.getvalue().encode()


def landed_manifests(client: S3Client, bucket: str, prefix: str, separation_type: str) -> list[Manifest]:
    """
    Read the manifests of all that landed.

    :param client: Client of the object storage.
    :param bucket: The bucket.
    :param prefix: Where stems land in it.
    :param separation_type: Manifests of other separations are left out.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    manifests = [
        Manifest.from_json(
            client.get_object(Bucket=bucket, Key=key)["Body"].read(), where=f"s3://{bucket}/{key}"
        )
        for key in keys
        if key.endswith("/manifest.json")
    ]
    return [manifest for manifest in manifests if manifest.separation_type.value == separation_type]


def build_report(
    *,
    state: str,
    tracks: Sequence[str],
    manifests: Sequence[Manifest],
    books: Totals,
    seconds: float,
    bucket: str,
) -> dict[str, Any]:
    """
    Put the report together.

    :param state: State of the DAG run.
    :param tracks: Keys of the catalogue's tracks; items are in their order.
    :param manifests: What landed.
    :param books: What the vendor booked for this run.
    :param seconds: From the start of the command until the run had ended.
    :param bucket: Name of the bucket.
    """
    place = {key: number for number, key in enumerate(tracks)}
    wanted = [manifest for manifest in manifests if manifest.track["key"] in place]
    wanted.sort(key=lambda manifest: place[manifest.track["key"] or ""])
    items = [
        {
            "track": manifest.track["key"],
            "stem": stem.name,
            "uri": stem.uri,
            "bytes": stem.bytes,
            "sha256": stem.sha256,
            "duration_seconds": stem.duration_seconds,
        }
        for manifest in wanted
        for stem in manifest.stems
    ]
    return {
        "dag_run_state": state,
        "tracks": len(tracks),
        "landed": len({manifest.track["key"] for manifest in wanted}),
        "stems": len(items),
        "seconds": round(seconds, 1),
        "bucket": bucket,
        "credits_charged": books.credits,
        "submits": books.submits,
        "items": items,
    }
