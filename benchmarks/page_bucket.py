"""A bucket with a year of runs, written with the provider's own models."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest
from airflow_provider_vocalsep.ledger import Identity, TaskInstanceRef
from airflow_provider_vocalsep.ledger.entry import Attempt, EntryState, Event, LedgerEntry
from airflow_provider_vocalsep.runs.report import BatchReport, RowState, TrackRow
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.storage.location import Location, StemLocation
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_s3 import S3Client

LOCATION = Location("stems", "music")
DESTINATION = LOCATION.uri
DAG_ID = "separate_large_catalogue"
BEGAN = datetime(2025, 11, 23, tzinfo=timezone.utc)
TYPE = SeparationType.SEPARATE_VOCAL

#: Tracks of an Airflow task, the operator's own default.
CHUNK = 200

#: Uploads at the same time.
WRITERS = 16

#: One in this many tracks has a manifest: those whose page is opened.
WITH_MANIFEST = 500


class Library:
    """
    The runs in the bucket.

    :param tracks: Tracks of all runs.
    :param runs: Runs. The first has a fifth of the tracks, the others share the rest.
    """

    def __init__(self, tracks: int, runs: int) -> None:
        self.runs = runs
        self.largest_tracks = tracks // 5
        share, more = divmod(tracks - self.largest_tracks, runs - 1)
        self.sizes = [self.largest_tracks, *(share + (n < more) for n in range(runs - 1))]
        self.largest = _run_id(0)
        #: Tracks with a manifest: the query of their page, and their title.
        self.known: list[tuple[dict[str, Any], str]] = []

    def write(self, client: S3Client) -> None:
        """Write entries, some manifests, plans and reports."""
        store = ObjectStore(client)
        with ThreadPoolExecutor(WRITERS) as pool:

            def put(objects: Iterable[tuple[str, bytes]]) -> None:
                list(
                    pool.map(
                        lambda item: store.put(LOCATION.bucket, *item, content_type="application/json"),
                        objects,
                    )
                )

            number = 0
            for run, size in enumerate(self.sizes):
                for index, first in enumerate(range(0, size, CHUNK)):
                    task = TaskInstanceRef(
                        dag_id=DAG_ID, run_id=_run_id(run), task_id="separate", map_index=index, try_number=1
                    )
                    rows, objects = [], []
                    for _ in range(first, min(first + CHUNK, size)):
                        row, written = self._track(number, task)
                        number += 1
                        rows.append(row)
                        objects += written
                    put(objects)
                    ReportFile(store, LOCATION, task, TYPE).write(BatchReport(rows, concluded=True))
                    folder = LOCATION.run_folder(task.dag_id, task.run_id, "plan")
                    put([(folder.key(f"tracks-{first + 1:06}-{first + len(rows):06}.jsonl"), b"{}\n")])

    def _track(self, number: int, task: TaskInstanceRef) -> tuple[TrackRow, list[tuple[str, bytes]]]:
        key, title = f"album-{number // 12:05}/track-{number:06}", f"Song number {number}"
        identity = Identity("sunoapi", f"{number:032x}/{number:08x}", TYPE)
        location = LOCATION.stems(key, TYPE)
        at = BEGAN + timedelta(minutes=number)
        failed = number % 50 == 49
        vendor_task_id = hashlib.md5(key.encode()).hexdigest()
        entry_key = LOCATION.ledger.key(identity.digest[:2], f"{identity.digest}.json")
        attempt = Attempt(
            attempt_id=vendor_task_id,
            asked_by=task,
            claimed_at=at,
            vendor_task_id=vendor_task_id,
            submitted_at=at,
        )
        names = ("claimed", "submitted", "separated", "failed" if failed else "landed")
        entry = LedgerEntry(
            account="sunoapi",
            source=identity.source,
            separation_type=TYPE,
            track_key=key,
            title=title,
            state=EntryState.FAILED if failed else EntryState.LANDED,
            attempts=[attempt],
            history=[Event(at=at, event=name, by=task, vendor_task_id=vendor_task_id) for name in names],
        )
        about = {
            "track": key,
            "title": title,
            "vendor_task_id": vendor_task_id,
            "submits": 1,
            "paid": 1,
            "credits": 10,
        }
        about |= {"entry": LOCATION.uri_of(entry_key), "source": identity.source}
        about |= {"attempt_id": vendor_task_id, "submitted_at": at}
        written = [(entry_key, entry.to_json())]
        if failed:
            row = TrackRow(**about, state=RowState.FAILED, code=500, message="The vendor failed.", final=True)
            return row, written
        row = TrackRow(
            **about, state=RowState.LANDED, manifest=location.manifest_uri, stems=2, bytes=9_600_000
        )
        if number % WITH_MANIFEST == 0:
            written.append((location.manifest_key, _manifest(row, location, at, task).to_json()))
            ids = task.model_dump(include={"dag_id", "run_id", "task_id", "map_index"})
            self.known.append(({**ids, "track": key}, title))
        return row, written


def _manifest(row: TrackRow, location: StemLocation, at: datetime, task: TaskInstanceRef) -> Manifest:
    stems = [
        LandedStem(
            name=name,
            uri=location.uri_of(location.stem_key(name, "mp3")),
            bytes=4_800_000,
            sha256="0" * 64,
            duration_seconds=200,
            content_type="audio/mpeg",
        )
        for name in ("vocals", "instrumental")
    ]
    return Manifest(
        track={"key": row.track, "title": row.title},
        separation_type=TYPE,
        dialect="sunoapi",
        vendor_task_id=row.vendor_task_id or "",
        landed_at=at,
        stems=tuple(stems),
        uri=location.manifest_uri,
        asked_by=task.model_dump(),
    )


def _run_id(number: int) -> str:
    return f"manual__{number:04}"
