"""The demo's report: landed stems according to the bucket, costs according to the vendor's books."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.landing.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore

#: Columns of the catalogue file.
COLUMNS = ("key", "title", "task_id", "audio_id", "duration")


@dataclass(frozen=True)
class Totals:
    """
    Totals of the vendor's books.

    :param submits: Number of accepted submits.
    :param credits: Credits charged.
    """

    submits: int
    credits: float

    @classmethod
    def read(cls, books: dict[str, Any]) -> Totals:
        """Read totals from the answer of ``GET /sandbox/books``."""
        return cls(submits=books["submits"], credits=books["credits_charged"])

    def __sub__(self, before: Totals) -> Totals:
        return Totals(self.submits - before.submits, self.credits - before.credits)


def catalogue_file(songs: Iterable[dict[str, Any]]) -> bytes:
    """
    Return a catalogue of the sandbox's songs as CSV with :data:`COLUMNS`.

    :param songs: Answer of ``GET /sandbox/catalogue``.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    rows.writeheader()
    rows.writerows(songs)
    return text.getvalue().encode()


def read_manifests(store: ObjectStore, destination: Location, separation_type: str) -> list[Manifest]:
    """Read the manifests of one separation type below a destination."""
    listed = store.list_objects(destination.bucket, destination.listing_prefix)
    keys = [item.key for item in listed if destination.is_manifest(item.key)]
    manifests = [
        Manifest.from_json(store.get(destination.bucket, key), where=destination.uri_of(key)) for key in keys
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
    Build the report.

    :param state: State of the DAG run.
    :param tracks: Keys of the catalogue's tracks; the report's items are in this order.
    :param manifests: Manifests of the landed tracks.
    :param books: Totals of this run only.
    :param seconds: From the start of the command to the end of the run.
    """
    position = {key: number for number, key in enumerate(tracks)}
    wanted = [manifest for manifest in manifests if manifest.track["key"] in position]
    wanted.sort(key=lambda manifest: position[manifest.track["key"] or ""])
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
