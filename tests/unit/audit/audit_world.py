"""A destination with a history: ledger, manifests, stems, plans and reports, written by what writes them in earnest."""

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
    Outcome,
    S3LedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.runs.report import BatchReport, RowState, TrackRow
from airflow_provider_vocalsep.runs.report_file import ReportFile, run_folder
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "stems"
DESTINATION = f"s3://{BUCKET}/music"
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
KIND = SeparationType.SEPARATE_VOCAL

NIGHTLY = TaskInstanceRef(
    dag_id="nightly", run_id="scheduled__1", task_id="separate", map_index=0, try_number=1
)
BY_HAND = TaskInstanceRef(dag_id="album", run_id="manual__2", task_id="separate", try_number=1, user="ann")


class World:
    """
    Writes a history.

    :param client: Client of the bucket.
    """

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.now = NOON
        self.ledger = Ledger(S3LedgerStore(client, BUCKET, "music/_vocalsep/ledger"), now=self.tick)
        self.attempts = 0

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def track(self, key: str, **fields: Any) -> Track:
        return Track.parse({"key": key, "task_id": "t", "audio_id": f"audio-{key}", **fields})

    def identity(self, track: Track) -> Identity:
        return Identity.of(track, account="sunoapi", separation_type=KIND, stem_name=None)

    def entry_key(self, key: str) -> str:
        return self.ledger.uri_of(self.identity(self.track(key))).removeprefix(f"s3://{BUCKET}/")

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
        """Call back about the latest attempt."""
        identity = self.identity(self.track(key))
        attempt = self.ledger.read(identity).current
        line = Event(
            at=self.tick(), event="called_back", by=attempt.asked_by, attempt_id=attempt.attempt_id, code=200,
            vendor_task_id=attempt.vendor_task_id, count=count,
        )  # fmt: skip
        self.ledger.record_callbacks(identity, lambda one: [line] if one == attempt.attempt_id else [])

    def fail(
        self, key: str, by: TaskInstanceRef = NIGHTLY, verdict: Verdict = Verdict.RETRY, **fields: Any
    ) -> TrackRow:
        """Submit a track that the vendor gives up."""
        vendor_task_id, track = self.submit(key, by, **fields), self.track(key, **fields)
        outcome = Outcome(at=self.tick(), verdict=verdict, code=451, message="no audio there")
        self.ledger.record_task_failed(
            self.identity(track), vendor_task_id, outcome, status="GENERATE_AUDIO_FAILED"
        )
        return self.row(track, RowState.FAILED, message="no audio there", code=451)

    def doubt(self, key: str, by: TaskInstanceRef = NIGHTLY) -> TrackRow:
        """Lose the answer to a submit."""
        attempt_id, track = self.claim(key, by), self.track(key)
        self.ledger.record_submit_lost(self.identity(track), attempt_id, "No answer came.")
        return self.row(track, RowState.FAILED, message="may have been paid for", attempt_id=attempt_id)

    def land(self, key: str, by: TaskInstanceRef = NIGHTLY, **fields: Any) -> TrackRow:
        """Take a track all the way."""
        vendor_task_id, track = self.submit(key, by, **fields), self.track(key, **fields)
        identity, place = self.identity(track), Location.parse(DESTINATION).stems(key, KIND)
        self.ledger.record_separated(identity, vendor_task_id, by, status="SUCCESS")
        stems = []
        for name in ("vocals", "instrumental"):
            body, where = f"{key}:{name}".encode() * 1000, place.stem_key(name, "mp3")
            self.put(where, body)
            digest = hashlib.sha256(body).hexdigest()
            stem = LandedStem(
                name=name, uri=place.uri_of(where), bytes=len(body), sha256=digest, content_type="audio/mpeg"
            )
            stems.append(stem)
        manifest = Manifest(
            track=describe_track(track), separation_type=KIND, dialect="sunoapi", vendor_task_id=vendor_task_id,
            landed_at=self.tick(), stems=tuple(stems), uri=place.manifest_uri,
            asked_by=by.model_dump(exclude_none=True), entry=self.ledger.uri_of(identity),
        )  # fmt: skip
        self.put(place.manifest_key, manifest.to_json())
        size = sum(stem.bytes for stem in stems)
        landing = Landing(at=self.tick(), vendor_task_id=vendor_task_id, stems=2, bytes=size)
        files = tuple(File(name=s.name, uri=s.uri, bytes=s.bytes, sha256=s.sha256) for s in stems)
        self.ledger.record_landed(identity, manifest.uri, landing, by, files)
        return self.row(track, RowState.LANDED, manifest=manifest.uri, stems=2, bytes=size)

    def row(self, track: Track, state: RowState, **fields: Any) -> TrackRow:
        """Return the track's row of a report."""
        (row,) = BatchReport.of([track]).rows.values()
        entry = self.ledger.uri_of(self.identity(track))
        return row.model_copy(update={"state": state, "entry": entry, **fields})

    def left(self, key: str) -> TrackRow:
        """Return the row of a track that nobody claimed: the credits were used up."""
        row = self.row(self.track(key), RowState.LEFT, message="max_credits is used up")
        return row.model_copy(update={"entry": None})

    def report(self, rows: list[TrackRow], by: TaskInstanceRef = NIGHTLY) -> str:
        """Write a run report; return its key."""
        file = ReportFile(self.client, DESTINATION, by, KIND)
        file.write(BatchReport(rows, concluded=True))
        return file.uri.removeprefix(f"s3://{BUCKET}/")

    def plan(self, tracks: list[Track], by: TaskInstanceRef = NIGHTLY) -> str:
        """Write a plan of one chunk; return its key."""
        _, folder = run_folder(DESTINATION, by.model_copy(update={"task_id": "plan"}))
        key = f"{folder}/tracks-{1:06}-{len(tracks):06}.jsonl"
        body = "".join(track.model_dump_json(exclude_none=True) + "\n" for track in tracks)
        self.put(key, body.encode())
        return key

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def keys(self) -> set[str]:
        """Keys of all objects."""
        return {item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}

    def json(self, key: str) -> Any:
        return json.loads(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def manifest_key(key: str) -> str:
    return Location.parse(DESTINATION).stems(key, KIND).manifest_key


def stem_key(key: str, name: str = "vocals") -> str:
    return Location.parse(DESTINATION).stems(key, KIND).stem_key(name, "mp3")
