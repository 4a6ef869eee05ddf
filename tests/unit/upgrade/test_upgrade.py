"""What earlier versions wrote into buckets and databases still works: users upgrade while tasks wait."""

from __future__ import annotations

import importlib
import inspect
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.callbacks.inbox import callbacks_by_attempt
from airflow_provider_vocalsep.callbacks.token import verify
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger import (
    Attach,
    EntryState,
    Identity,
    InDoubt,
    Intent,
    Landed,
    Ledger,
    LedgerEntry,
    MemoryLedgerStore,
    Submit,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator
from airflow_provider_vocalsep.operators.vocal_separation_batch import VocalSeparationBatchOperator
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.triggers.events import parse_batch_event, validate_event

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if (path / "triggers.json").exists())
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DESTINATION = "s3://stems/music/one/separate_vocal"
NEXT_RUN = TaskInstanceRef(
    dag_id="nightly", run_id="scheduled__2", task_id="separate", map_index=3, try_number=1
)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def read_fixture(request):
    """Read a file that an earlier version wrote."""

    def read(name):
        path = request.param / name
        return json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()

    return read


def test_fixtures_of_the_first_version_exist():
    assert [path.name for path in VERSIONS][:1] == ["0.1.0"]


def test_serialized_trigger_is_restored(read_fixture):
    for path, arguments in read_fixture("triggers.json"):
        module, _, name = path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**arguments)
        again, values = trigger.serialize()
        assert again == path
        assert arguments.items() <= values.items()


@pytest.mark.parametrize(
    "operator, method, kwargs",
    [
        (VocalSeparationOperator, "execute_complete", ["event", "attempt_id", "submitted_at"]),
        (VocalSeparationOperator, "execute_adoption", ["event"]),
        (VocalSeparationBatchOperator, "execute_complete", ["event"]),
        (VocalSeparationSensor, "execute_complete", ["event"]),
    ],
)
def test_deferred_task_is_resumed_by_the_method_that_it_named(operator, method, kwargs):
    """Airflow stores the name and the arguments with the task instance."""
    inspect.signature(getattr(operator, method)).bind(None, {}, **dict.fromkeys(kwargs))


def test_event_of_a_trigger_is_parsed(read_fixture):
    events = read_fixture("events.json")

    assert validate_event(events["VocalSeparationTrigger"]) == (WaitOutcome.FINISHED, "T-submitted", "m")
    assert parse_batch_event(events["BatchTrigger"]) == {"T-submitted": (WaitOutcome.FINISHED, "m")}


@pytest.mark.parametrize(
    "state, decision_type",
    [
        ("claimed", InDoubt),
        ("in_doubt", InDoubt),
        ("submitted", Attach),
        ("failed", Submit),
        ("landed", Landed),
    ],
)
def test_ledger_entry_leads_to_the_same_decision_and_keeps_its_history(read_fixture, state, decision_type):
    before = read_fixture("entries.json")[state]
    ledger = Ledger(MemoryLedgerStore(), now=lambda: NOON + timedelta(days=365))
    track = Track(key=state, task_id="t", audio_id=state)

    identity = Identity.of(
        track, account="sunoapi", separation_type=SeparationType.SEPARATE_VOCAL, stem_name=None
    )

    assert identity.source == before["source"], "the entry has the same key in the store"

    ledger.store.write(identity, LedgerEntry.model_validate(before), None)

    decision = ledger.claim(
        identity, Intent("new", NEXT_RUN, state), manifest_uri=f"{DESTINATION}/manifest.json"
    )
    assert type(decision) is decision_type

    after = json.loads(ledger.read(identity).to_json())
    assert after["history"][: len(before["history"])] == before["history"]
    assert after["attempts"][: len(before["attempts"])] == before["attempts"]


def test_ledger_entry_keeps_its_digest():
    """With another digest, every separation would be paid for again."""
    identity = Identity("sunoapi", "t/landed", SeparationType.SEPARATE_VOCAL, None)

    assert identity.digest == "b9f3ff86a089330abe89267ba1c61ea001a24a8bc246cfb44da219161430e7cd"


def test_token_of_a_callback_url_is_verified(read_fixture):
    token = read_fixture("token.json")

    claims = verify(token["token"], [token["secret"]], now=NOON.timestamp())

    assert (claims.dag_id, claims.map_index, claims.attempt_id) == ("nightly", 3, "attempt-submitted")


def test_stored_callback_is_read(read_fixture):
    callbacks = callbacks_by_attempt(read_fixture("callbacks.json"))["attempt-submitted"]

    assert [(one.vendor_task_id, one.code, one.count) for one in callbacks] == [("T-submitted", 200, 1)]


def test_run_report_is_read(read_fixture):
    report = BatchReport.from_jsonl(read_fixture("report.jsonl"))

    assert {row.track: row.state for row in report.rows.values()} == {
        "claimed": RowState.PLANNED,
        "in_doubt": RowState.IN_DOUBT,
        "submitted": RowState.WAITING,
        "failed": RowState.FAILED,
        "landed": RowState.LANDED,
    }
    assert report.rows["submitted"].vendor_task_id == "T-submitted"


def test_plan_is_read(read_fixture):
    tracks = [Track.parse(json.loads(line)) for line in read_fixture("plan.jsonl").splitlines()]

    assert [track.title for track in tracks][-1] == "🎵 landed"


def test_manifest_is_read(read_fixture):
    manifest = Manifest.from_json(json.dumps(read_fixture("manifest.json")).encode(), where="here")

    assert [stem.uri for stem in manifest.stems] == [f"{DESTINATION}/vocals.mp3"]
    assert (manifest.vendor_task_id, manifest.landed_at) == ("T-landed", NOON)


def test_ledger_states_keep_their_names():
    assert {"claimed", "submitted", "separated", "landed", "failed"} <= {state.value for state in EntryState}
