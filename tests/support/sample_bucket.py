"""A destination with ledger, manifests, stems, plans and run reports, written by the provider's own code."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, describe_track
from airflow_provider_vocalsep.ledger import (
    Event,
    File,
    Identity,
    Intent,
    Landing,
    Ledger,
    LedgerEntry,
    Outcome,
    S3LedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.runs.report import BatchReport, RowState, TrackRow
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.storage.location import Location, StemLocation
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "stems"
LOCATION = Location(BUCKET, "music")
DESTINATION = LOCATION.uri
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
KIND = SeparationType.SEPARATE_VOCAL

NIGHTLY = TaskInstanceRef(
    dag_id="nightly", run_id="scheduled__1", task_id="separate", map_index=0, try_number=1
)
OPEN = TaskInstanceRef(dag_id="open", run_id="manual__1", task_id="separate", try_number=1)
BY_HAND = TaskInstanceRef(dag_id="album", run_id="manual__2", task_id="separate", try_number=1, user="ann")


class SampleBucket:
    """
    Writes the history of the destination ``s3://stems/music``.

    :param client: Client of the store; the bucket exists.
    """

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.store = ObjectStore(client)
        self.now = NOON
        self.attempts = 0
        self.ledger = Ledger(S3LedgerStore(self.store, LOCATION.ledger), now=self.tick)

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def track(self, key: str, **fields: Any) -> Track:
        return Track.parse({"key": key, "task_id": "t", "audio_id": f"audio-{key}", **fields})

    def identity(self, track: Track) -> Identity:
        return Identity.of(track, account="sunoapi", separation_type=KIND, stem_name=None)

    def entry(self, key: str) -> LedgerEntry:
        entry = self.ledger.read(self.identity(self.track(key)))
        assert entry is not None
        return entry

    def entry_key(self, key: str) -> str:
        uri = self.ledger.uri_of(self.identity(self.track(key)))
        return uri.removeprefix(f"s3://{BUCKET}/")

    def claim(self, key: str, by: TaskInstanceRef = NIGHTLY, **fields: Any) -> str:
        """Claim a track; return the attempt."""
        self.attempts += 1
        attempt_id, track = f"attempt-{self.attempts}", self.track(key, **fields)
        intent = Intent(attempt_id, by, key, title=track.title, calls_back=True)
        self.ledger.claim(self.identity(track), intent)
        return attempt_id

    def submit(self, key: str, by: TaskInstanceRef = NIGHTLY, **fields: Any) -> str:
        """Claim and submit a track; return the vendor task."""
        attempt_id = self.claim(key, by, **fields)
        vendor_task_id = f"task-{attempt_id}"
        self.ledger.record_submitted(self.identity(self.track(key)), attempt_id, vendor_task_id)
        return vendor_task_id

    def call_back(self, key: str, count: int = 1) -> None:
        """Record a callback about the latest attempt."""
        attempt = self.entry(key).current
        event = Event(
            at=self.tick(),
            event="called_back",
            by=attempt.asked_by,
            attempt_id=attempt.attempt_id,
            code=200,
            vendor_task_id=attempt.vendor_task_id,
            count=count,
        )
        self.ledger.record_callbacks(
            self.identity(self.track(key)),
            lambda attempt_id: [event] if attempt_id == attempt.attempt_id else [],
        )

    def fail(
        self, key: str, by: TaskInstanceRef = NIGHTLY, verdict: Verdict = Verdict.RETRY, **fields: Any
    ) -> TrackRow:
        """Submit a track that fails at the vendor."""
        vendor_task_id, track = self.submit(key, by, **fields), self.track(key, **fields)
        outcome = Outcome(at=self.tick(), verdict=verdict, code=451, message="no audio there")
        self.ledger.record_task_failed(
            self.identity(track), vendor_task_id, outcome, status="GENERATE_AUDIO_FAILED"
        )
        return self.row(track, RowState.FAILED, message="no audio there", code=451)

    def refuse(self, key: str, by: TaskInstanceRef = NIGHTLY) -> None:
        """Claim a track whose submit is refused as too fast; its process ends before it sends again."""
        attempt_id, track = self.claim(key, by), self.track(key)
        outcome = Outcome(at=self.tick(), verdict=Verdict.WAIT, code=430, message="too fast")
        self.ledger.record_refused(self.identity(track), attempt_id, outcome)

    def lose_answer(self, key: str, by: TaskInstanceRef = NIGHTLY) -> TrackRow:
        """Claim a track whose submit is never answered."""
        attempt_id, track = self.claim(key, by), self.track(key)
        self.ledger.record_submit_lost(self.identity(track), attempt_id, "No answer came.")
        return self.row(track, RowState.FAILED, message="may have been paid for", attempt_id=attempt_id)

    def land(self, key: str, by: TaskInstanceRef = NIGHTLY, **fields: Any) -> TrackRow:
        """Separate and land a track."""
        vendor_task_id = self.submit(key, by, **fields)
        self.ledger.record_separated(self.identity(self.track(key)), vendor_task_id, by, status="SUCCESS")
        return self.land_separated(key, by, **fields)

    def land_separated(self, key: str, by: TaskInstanceRef = NIGHTLY, **fields: Any) -> TrackRow:
        """Land a track that is separated, or has landed before."""
        track, location = self.track(key, **fields), stems_of(key)
        identity, vendor_task_id = self.identity(track), self.entry(key).current.vendor_task_id or ""
        stems = [self._put_stem(location, key, name) for name in ("vocals", "instrumental")]
        manifest = Manifest(
            track=describe_track(track),
            separation_type=KIND,
            dialect="sunoapi",
            vendor_task_id=vendor_task_id,
            landed_at=self.tick(),
            stems=tuple(stems),
            uri=location.manifest_uri,
            asked_by=by.model_dump(exclude_none=True),
            entry=self.ledger.uri_of(identity),
        )
        self.put(location.manifest_key, manifest.to_json())
        size = sum(stem.bytes for stem in stems)
        landing = Landing(at=self.tick(), vendor_task_id=vendor_task_id, stems=2, bytes=size)
        files = tuple(File(name=s.name, uri=s.uri, bytes=s.bytes, sha256=s.sha256) for s in stems)
        self.ledger.record_landed(identity, manifest.uri, landing, by, files)
        return self.row(
            track,
            RowState.LANDED,
            vendor_task_id=vendor_task_id,
            submits=1,
            stems=2,
            bytes=size,
            manifest=manifest.uri,
        )

    def _put_stem(self, location: StemLocation, key: str, name: str) -> LandedStem:
        body, stem_key = stem_bytes(key, name), location.stem_key(name, "mp3")
        self.put(stem_key, body, content_type="audio/mpeg")
        return LandedStem(
            name=name,
            uri=location.uri_of(stem_key),
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            content_type="audio/mpeg",
        )

    def row(self, track: Track, state: RowState, **fields: Any) -> TrackRow:
        """Return the track's row of a report."""
        (row,) = BatchReport.of([track]).rows.values()
        entry = self.ledger.uri_of(self.identity(track))
        return row.model_copy(update={"state": state, "entry": entry, **fields})

    def leave(self, key: str) -> TrackRow:
        """Return the row of a track that was never claimed: the credits were used up."""
        return self.row(self.track(key), RowState.LEFT, message="max_credits is used up", entry=None)

    def report(self, rows: list[TrackRow], by: TaskInstanceRef = NIGHTLY, *, concluded: bool = True) -> str:
        """Write a run report; return its key."""
        file = ReportFile(self.store, LOCATION, by, KIND)
        file.write(BatchReport(rows, concluded=concluded))
        return file.key

    def plan(self, tracks: list[Track], by: TaskInstanceRef = NIGHTLY, *, first: int = 1) -> str:
        """Write a plan of one chunk; return its key."""
        folder = LOCATION.run_folder(by.dag_id, by.run_id, "plan")
        key = folder.key(f"tracks-{first:06}-{first + len(tracks) - 1:06}.jsonl")
        body = "".join(track.model_dump_json(exclude_none=True) + "\n" for track in tracks)
        self.put(key, body.encode())
        return key

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def keys(self) -> set[str]:
        """Return the keys of all objects."""
        return {item.key for item in self.store.list_objects(BUCKET, "")}


def stems_of(key: str) -> StemLocation:
    """Return where the stems of a track are."""
    return LOCATION.stems(key, KIND)


def manifest_key(key: str) -> str:
    return stems_of(key).manifest_key


def stem_key(key: str, name: str = "vocals") -> str:
    return stems_of(key).stem_key(name, "mp3")


def stem_bytes(key: str, name: str = "vocals") -> bytes:
    """Return the bytes of a stem: different for each, and 10 KiB long."""
    return (f"{key}:{name}|".encode() * 1024)[:10240]
