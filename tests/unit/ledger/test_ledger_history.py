"""The history of an entry: task instances, statuses of the vendor, prices, and landed stems."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Event,
    File,
    Identity,
    Intent,
    Landing,
    Ledger,
    LedgerConflictError,
    LedgerEntry,
    MemoryLedgerStore,
    Outcome,
    TaskInstanceRef,
)

ONE = Identity("sunoapi", "t/a", SeparationType.SPLIT_STEM)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", map_index=3, try_number=1, user="ann")
MY_RETRY = ME.model_copy(update={"try_number": 2})
NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
FILE = File(name="vocals", uri="s3://x/vocals.mp3", bytes=9, sha256="ab")


class StoreThatIsSentTwice(MemoryLedgerStore):
    """The client sends each write twice; the second copy finds the first in its way."""

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        super().write(identity, entry, version)
        raise LedgerConflictError("412: its own first copy is in the way")


@pytest.fixture
def ledger():
    return Ledger(MemoryLedgerStore(), now=lambda: NOW)


def history_of(ledger) -> list[Event]:
    return ledger.read(ONE).history


def submit(ledger, number: int, asked_by: TaskInstanceRef = ME) -> None:
    ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asked_by, track_key="one"))
    ledger.record_submitted(ONE, f"a{number}", f"T{number}")


def failure(verdict: Verdict = Verdict.RETRY, *, final: bool = False) -> Outcome:
    return Outcome(at=NOW, verdict=verdict, code=500, message="bad luck", final=final)


def test_history_names_the_user_who_triggered_the_run(ledger):
    submit(ledger, 1)

    assert [event.by.user for event in history_of(ledger)] == ["ann", "ann"]
    assert json.loads(ledger.read(ONE).to_json())["history"][0]["by"]["user"] == "ann"


class TestPaidBy:
    def test_submitted_event_has_the_price(self, ledger):
        submit(ledger, 1)

        assert [event.credits for event in history_of(ledger)] == [None, 50]
        assert ledger.paid_by(ONE, ME) == (1, 50)

    def test_refund_is_subtracted_once(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failure(Verdict.REFUNDED))

        ledger.record_task_failed(ONE, "T1", failure(Verdict.REFUNDED, final=True))

        assert [event.credits for event in history_of(ledger)] == [None, 50, -50, None]
        assert ledger.paid_by(ONE, ME) == (1, 0)

    def test_adopted_vendor_task_counts_as_paid(self, ledger):
        ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))

        assert [attempt.attempt_id for attempt in ledger.read(ONE).unanswered] == ["a1"]

        ledger.record_submitted(ONE, "a1", "T1", event="adopted")
        assert (history_of(ledger)[-1].event, history_of(ledger)[-1].credits) == ("adopted", 50)
        assert ledger.read(ONE).unanswered == []

    def test_all_tries_of_a_task_instance_count_together(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failure())
        submit(ledger, 2, MY_RETRY)

        assert ledger.paid_by(ONE, MY_RETRY) == (2, 100)
        assert ledger.paid_by(ONE, ME.model_copy(update={"run_id": "r2"})) == (0, 0)
        assert ledger.paid_by(Identity("sunoapi", "other", ONE.separation_type), ME) == (0, 0)


class TestHistory:
    def test_failed_and_separated_events_have_the_status_of_the_vendor(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failure(), status="GENERATE_AUDIO_FAILED")
        submit(ledger, 2)

        ledger.record_separated(ONE, "T2", ME, status="CALLBACK_EXCEPTION")

        statuses = [(event.event, event.status) for event in history_of(ledger) if event.status]
        assert statuses == [("failed", "GENERATE_AUDIO_FAILED"), ("separated", "CALLBACK_EXCEPTION")]

    def test_refusals_of_a_submit_are_counted_in_one_event(self, ledger):
        ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))
        for code in (430, 430, 455):
            refusal = Outcome(at=NOW, verdict=Verdict.WAIT, code=code, message=f"no {code}")
            ledger.record_refused(ONE, "a1", refusal)
            ledger.renew(ONE, "a1")

        refused, sent_again = history_of(ledger)[-2:]
        assert (refused.event, refused.count, refused.code, refused.message) == (
            "submit_refused",
            3,
            455,
            "no 455",
        )
        assert (sent_again.event, sent_again.count) == ("sent_again", 3)

    def test_refusal_whose_write_the_client_sends_twice_counts_once(self):
        ledger = Ledger(StoreThatIsSentTwice(), now=lambda: NOW)
        ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))
        for _ in range(2):
            ledger.record_refused(ONE, "a1", Outcome(at=NOW, verdict=Verdict.WAIT, code=430))
            ledger.renew(ONE, "a1")

        counts = [(event.event, event.count) for event in history_of(ledger)]
        assert counts == [("claimed", 1), ("submit_refused", 2), ("sent_again", 2)]

    def test_second_vendor_task_of_an_attempt_is_recorded_without_changing_the_state(self, ledger):
        submit(ledger, 1)
        ledger.record_separated(ONE, "T1", ME)
        before = ledger.read(ONE)

        ledger.record_submitted(ONE, "a1", "T9")

        after = ledger.read(ONE)
        assert (after.state, after.attempts) == (before.state, before.attempts)
        assert (after.history[-1].event, after.history[-1].vendor_task_id) == ("submitted", "T9")


def test_landed_event_has_each_stem_with_its_digest(ledger):
    submit(ledger, 1)

    ledger.record_landed(
        ONE, "s3://x/m.json", Landing(at=NOW, vendor_task_id="T1", stems=1, bytes=9), ME, (FILE,)
    )

    assert history_of(ledger)[-1].files == (FILE,)
    assert json.loads(ledger.read(ONE).to_json())["history"][-1]["files"] == [FILE.model_dump()]


def test_landed_event_is_the_latest_and_its_landing_keeps_the_time_of_the_manifest(ledger):
    submit(ledger, 1)
    ledger.now = lambda: NOW + timedelta(seconds=5)
    other = ME.model_copy(update={"run_id": "r2"})
    ledger.claim(ONE, Intent(attempt_id="a2", asked_by=other, track_key="one"))

    ledger.record_landed(ONE, "s3://x/m.json", Landing(at=NOW, vendor_task_id="T1", stems=1, bytes=9), ME)

    times = [event.at for event in history_of(ledger)]
    assert times == sorted(times)
    assert ledger.read(ONE).landings["s3://x/m.json"].at == NOW


class TestAttachedEvents:
    def test_each_try_of_a_task_instance_has_its_own_event(self, ledger):
        submit(ledger, 1)
        for number in (2, 3):
            asked_by = ME.model_copy(update={"try_number": number})
            ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asked_by, track_key="one"))

        attached = [event.by.try_number for event in history_of(ledger) if event.event == "attached"]
        assert attached == [2, 3]

    def test_other_runs_are_counted_in_one_event(self, ledger):
        submit(ledger, 1)
        for number in (2, 3):
            asked_by = ME.model_copy(update={"run_id": f"r{number}"})
            ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asked_by, track_key="one"))

        last = history_of(ledger)[-1]
        assert (last.event, last.count, last.by.run_id) == ("attached", 2, "r3")


def test_entry_of_the_first_version_is_read_and_extended(ledger):
    """The first builds of 0.1.0 wrote no user, credits, status or files."""
    old = {
        "schema_version": 1,
        "account": "sunoapi",
        "source": "t/a",
        "separation_type": "split_stem",
        "track_key": "one",
        "state": "submitted",
        "attempts": [
            {
                "attempt_id": "a1",
                "asked_by": {"dag_id": "d", "run_id": "r1", "task_id": "separate", "map_index": 3},
                "claimed_at": "2026-11-23T00:00:00Z",
                "vendor_task_id": "T1",
                "submitted_at": "2026-11-23T00:00:01Z",
            }
        ],
        "history": [
            {"at": "2026-11-23T00:00:00Z", "event": "claimed"},
            {"at": "2026-11-23T00:00:01Z", "event": "submitted", "vendor_task_id": "T1"},
        ],
    }
    ledger.store.write(ONE, LedgerEntry.model_validate_json(json.dumps(old)), None)

    assert ledger.paid_by(ONE, ME) == (1, 50)

    ledger.record_separated(ONE, "T1", ME, status="SUCCESS")
    assert [event.event for event in history_of(ledger)] == ["claimed", "submitted", "separated"]
