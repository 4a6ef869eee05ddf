"""A bucket with a year of runs in it, written by the models that the operators write with."""

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
from airflow_provider_vocalsep.runs.report_file import ReportFile, run_folder
from airflow_provider_vocalsep.storage.location import Location, StemLocation, parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_s3 import S3Client

DESTINATION = "s3://stems/music"
DAG_ID = "separate_large_catalogue"
BEGAN = datetime(2025, 11, 23, tzinfo=timezone.utc)
TYPE = SeparationType.SEPARATE_VOCAL

#: Tracks of an Airflow task, the operator's own default.
CHUNK = 200

#: Uploads at the same time.
WRITERS = 16

#: One track in so many has a manifest as well: those whose page is opened.
WITH_MANIFEST = 500


class Library:
    """
    What is written.

    :param tracks: Tracks of all runs together.
    :param runs: Runs. The first has a fifth of the tracks, the others share the rest.
    """

    def __init__(self, tracks: int, runs: int) -> None:
        self.runs = runs
        self.largest_tracks = tracks // 5
        share, more = divmod(tracks - self.largest_tracks, runs - 1)
        self.sizes = [self.largest_tracks, *(share + (n < more) for n in range(runs - 1))]
        self.largest = _run_id(0)
        #: Tracks with a manifest: what a track page is asked for by, and the track's title.
        self.known: list[tuple[dict[str, Any], str]] = []

    def write(self, client: S3Client) -> None:
        """Write entries, some manifests, plans and reports."""
        bucket, prefix = parse_s3_uri(DESTINATION)
        with ThreadPoolExecutor(WRITERS) as pool:

            def put(objects: Iterable[tuple[str, bytes]]) -> None:
                list(
                    pool.map(
                        lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), objects
                    )
                )

            number = 0
            for run, size in enumerate(self.sizes):
                for index, first in enumerate(range(0, size, CHUNK)):
                    who = TaskInstanceRef(
                        dag_id=DAG_ID, run_id=_run_id(run), task_id="separate", map_index=index, try_number=1
                    )
                    rows, objects = [], []
                    for _ in range(first, min(first + CHUNK, size)):
                        row, written = self._track(number, who, prefix)
                        number += 1
                        rows.append(row)
                        objects += written
                    put(objects)
                    ReportFile(client, DESTINATION, who, TYPE).write(BatchReport(rows, concluded=True))
                    _, folder = run_folder(DESTINATION, who.model_copy(update={"task_id": "plan"}))
                    put([(f"{folder}/tracks-{first + 1:06}-{first + len(rows):06}.jsonl", b"{}\n")])

    def _track(
        self, number: int, who: TaskInstanceRef, prefix: str
    ) -> tuple[TrackRow, list[tuple[str, bytes]]]:
        key, title = f"album-{number // 12:05}/track-{number:06}", f"Song number {number}"
        identity = Identity("sunoapi", f"{number:032x}/{number:08x}", TYPE)
        place = Location.parse(DESTINATION).stems(key, TYPE)
        at = BEGAN + timedelta(minutes=number)
        failed = number % 50 == 49
        vendor_task_id = hashlib.md5(key.encode()).hexdigest()
        entry_key = f"{prefix}/_vocalsep/ledger/{identity.digest[:2]}/{identity.digest}.json"
        attempt = Attempt(
            attempt_id=vendor_task_id,
            asked_by=who,
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
            history=[Event(at=at, event=name, by=who, vendor_task_id=vendor_task_id) for name in names],
        )
        about = {
            "track": key,
            "title": title,
            "vendor_task_id": vendor_task_id,
            "submits": 1,
            "paid": 1,
            "credits": 10,
        }
        about |= {"entry": f"s3://{parse_s3_uri(DESTINATION)[0]}/{entry_key}", "source": identity.source}
        about |= {"attempt_id": vendor_task_id, "submitted_at": at}
        written = [(entry_key, entry.to_json())]
        if failed:
            row = TrackRow(
                **about, state=RowState.FAILED, code=500, message="The vendor gave it up.", final=True
            )
            return row, written
        row = TrackRow(**about, state=RowState.LANDED, manifest=place.manifest_uri, stems=2, bytes=9_600_000)
        if number % WITH_MANIFEST == 0:
            written.append((place.manifest_key, _manifest(row, place, at, who).to_json()))
            asked = who.model_dump(include={"dag_id", "run_id", "task_id", "map_index"})
            self.known.append(({**asked, "track": key}, title))
        return row, written


def _manifest(row: TrackRow, place: StemLocation, at: datetime, who: TaskInstanceRef) -> Manifest:
    stems = [
        LandedStem(
            name=name,
            uri=place.uri_of(place.stem_key(name, "mp3")),
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
        uri=place.manifest_uri,
        asked_by=who.model_dump(),
    )


def _run_id(number: int) -> str:
    return f"manual__{number:04}"
