"""
Write the fixtures of this version, for the tests of later versions: run once for every release.

    python -m tests.unit.upgrade.write_fixtures

Never overwrite the fixtures of a release: they are what lies in buckets and databases.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_provider_vocalsep import __version__
from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.models import Callback
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.callbacks.inbox import record_delivery
from airflow_provider_vocalsep.callbacks.token import CallbackClaims, mint
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, describe_track
from airflow_provider_vocalsep.ledger import (
    Event,
    File,
    Identity,
    Intent,
    Landing,
    Ledger,
    MemoryLedgerStore,
    Outcome,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger
from tests.support.manual_clock import ManualClock

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
SECRET = "a-secret-of-the-fixtures-0123456789"
KIND = SeparationType.SEPARATE_VOCAL
STATES = ("claimed", "in_doubt", "submitted", "failed", "landed")
DESTINATION = "s3://stems/music/one/separate_vocal"


def track_of(state: str) -> Track:
    return Track(key=state, title=f"🎵 {state}", task_id="t", audio_id=state)


def identity_of(state: str) -> Identity:
    return Identity.of(track_of(state), account="sunoapi", separation_type=KIND, stem_name=None)


def task_instance(try_number: int = 1) -> TaskInstanceRef:
    return TaskInstanceRef(
        dag_id="nightly",
        run_id="scheduled__1",
        task_id="separate",
        map_index=3,
        try_number=try_number,
        user="ann",
    )


def build_entry(state: str) -> dict[str, Any]:
    """Return the ledger entry of a track in a state."""
    ledger = Ledger(MemoryLedgerStore(), now=ManualClock(NOON + timedelta(seconds=1), step=1))
    identity, attempt, task = identity_of(state), f"attempt-{state}", f"T-{state}"
    intent = Intent(attempt, task_instance(), state, title=track_of(state).title, calls_back=True)
    ledger.claim(identity, intent)
    if state == "in_doubt":
        ledger.record_submit_lost(identity, attempt, "No answer came.")
    if state in ("submitted", "failed", "landed"):
        ledger.record_submitted(identity, attempt, task)
        callback = Event(
            at=NOON,
            event="called_back",
            by=task_instance(),
            attempt_id=attempt,
            code=200,
            vendor_task_id=task,
        )
        ledger.record_callbacks(identity, lambda _: [callback])
    if state == "failed":
        outcome = Outcome(at=NOON, verdict=Verdict.REFUNDED, code=531, message="failed, given back")
        ledger.record_task_failed(identity, task, outcome, status="GENERATE_AUDIO_FAILED")
    if state == "landed":
        ledger.record_separated(identity, task, task_instance(2), status="SUCCESS")
        files = (File(name="vocals", uri=f"{DESTINATION}/vocals.mp3", bytes=3, sha256="0" * 64),)
        landing = Landing(at=NOON, vendor_task_id=task, stems=1, bytes=3)
        ledger.record_landed(identity, f"{DESTINATION}/manifest.json", landing, task_instance(2), files)
    found = ledger.read(identity)
    assert found is not None
    return json.loads(found.to_json())


def build_report() -> bytes:
    made = BatchReport.of(map(track_of, STATES))
    states = dict(
        zip(STATES, (RowState.PLANNED, RowState.IN_DOUBT, RowState.WAITING, RowState.FAILED, RowState.LANDED))
    )
    for name, row in made.rows.items():
        row.state = states[name]
        row.attempt_id = f"attempt-{name}"
        if row.state in (RowState.WAITING, RowState.LANDED, RowState.FAILED):
            row.vendor_task_id, row.submitted_at = f"T-{name}", NOON
    return made.to_jsonl(
        dag_id="nightly", run_id="scheduled__1", task_id="separate", map_index=3, try_number=1
    )


def build_manifest() -> bytes:
    stem = LandedStem(
        name="vocals",
        uri=f"{DESTINATION}/vocals.mp3",
        bytes=3,
        sha256="0" * 64,
        content_type="audio/mpeg",
        etag="e",
    )
    return Manifest(
        track=describe_track(track_of("landed")),
        separation_type=KIND,
        dialect="sunoapi",
        vendor_task_id="T-landed",
        landed_at=NOON,
        stems=(stem,),
        uri=f"{DESTINATION}/manifest.json",
        asked_by={"dag_id": "nightly"},
    ).to_json()


def main() -> None:
    folder = Path(__file__).parent / __version__
    folder.mkdir()
    at = NOON.timestamp()
    triggers = [
        VocalSeparationTrigger("T-submitted", deadline=at + 3600, visible_by=at + 120, read_at_once=False),
        BatchTrigger({"T-submitted": at}, deadline=at + 3600, in_doubt=["attempt-in_doubt"], until=at + 900),
        LostSubmitTrigger("attempt-in_doubt", until=at + 900),
    ]
    claims = CallbackClaims(
        "vocalsep_default", "nightly", "scheduled__1", "separate", 3, "attempt-submitted", 2_000_000_000, True
    )
    callbacks, _ = record_delivery(None, Callback("T-submitted", 200, "All stems separated."), NOON)
    files: dict[str, Any] = {
        "triggers": [trigger.serialize() for trigger in triggers],
        "events": {
            "VocalSeparationTrigger": {
                "status": "finished",
                "vendor_task_id": "T-submitted",
                "message": "m",
                "reads": 2,
            },
            "BatchTrigger": {"ended": {"T-submitted": ["finished", "m"]}, "reads": 2},
            "LostSubmitTrigger": {"status": "gave_up", "attempt_id": "attempt-in_doubt"},
        },
        "entries": {state: build_entry(state) for state in STATES},
        "token": {"token": mint(claims, SECRET), "secret": SECRET},
        "callbacks": {"attempt-submitted": callbacks},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    (folder / "report.jsonl").write_bytes(build_report())
    (folder / "manifest.json").write_bytes(build_manifest())
    tracks = [json.dumps(track_of(state).model_dump(exclude_none=True)) for state in STATES]
    (folder / "plan.jsonl").write_text("\n".join(tracks) + "\n")


if __name__ == "__main__":
    main()
