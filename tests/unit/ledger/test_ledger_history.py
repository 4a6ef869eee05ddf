"""What the history of an entry tells: who, what the vendor said, what it cost, which bytes landed."""

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


@pytest.fixture
def ledger():
    return Ledger(MemoryLedgerStore(), now=lambda: NOW)


def history(ledger) -> list[Event]:
    return ledger.read(ONE).history


def submit(ledger, number: int, asker: TaskInstanceRef = ME) -> None:
    ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asker, track_key="one"))
    ledger.record_submitted(ONE, f"a{number}", f"T{number}")


def failed(verdict: Verdict = Verdict.RETRY, *, final: bool = False) -> Outcome:
    return Outcome(at=NOW, verdict=verdict, code=500, message="bad luck", final=final)


def test_names_the_user_who_triggered_the_run(ledger):
    submit(ledger, 1)
    assert [event.by.user for event in history(ledger)] == ["ann", "ann"]
    assert json.loads(ledger.read(ONE).to_json())["history"][0]["by"]["user"] == "ann"


class TestMoney:
    def test_is_in_the_line_of_the_submit(self, ledger):
        submit(ledger, 1)
        assert [event.credits for event in history(ledger)] == [None, 50]
        assert ledger.paid_by(ONE, ME) == (1, 50)

    def test_that_was_given_back_is_taken_off_once(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failed(Verdict.REFUNDED))
        ledger.record_task_failed(ONE, "T1", failed(Verdict.REFUNDED, final=True))
        assert [event.credits for event in history(ledger)] == [None, 50, -50, None]
        assert ledger.paid_by(ONE, ME) == (1, 0)

    def test_of_a_vendor_task_that_a_callback_named_counts(self, ledger):
        ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))
        assert [attempt.attempt_id for attempt in ledger.read(ONE).unanswered] == ["a1"]
        ledger.record_submitted(ONE, "a1", "T1", event="adopted")
        assert (history(ledger)[-1].event, history(ledger)[-1].credits) == ("adopted", 50)
        assert ledger.read(ONE).unanswered == []

    def test_is_counted_for_who_paid_in_whichever_try(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failed())
        submit(ledger, 2, MY_RETRY)
        assert ledger.paid_by(ONE, MY_RETRY) == (2, 100)
        assert ledger.paid_by(ONE, ME.model_copy(update={"run_id": "r2"})) == (0, 0)
        assert ledger.paid_by(Identity("sunoapi", "other", ONE.separation_type), ME) == (0, 0)


class TestWhatTheVendorSaid:
    def test_keeps_its_own_word_for_the_end(self, ledger):
        submit(ledger, 1)
        ledger.record_task_failed(ONE, "T1", failed(), status="GENERATE_AUDIO_FAILED")
        submit(ledger, 2)
        ledger.record_separated(ONE, "T2", ME, status="CALLBACK_EXCEPTION")
        said = [(event.event, event.status) for event in history(ledger) if event.status]
        assert said == [("failed", "GENERATE_AUDIO_FAILED"), ("separated", "CALLBACK_EXCEPTION")]

    def test_counts_how_often_a_submit_was_turned_away_before_it_was_taken(self, ledger):
        ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))
        for code in (430, 430, 455):
            ledger.renew(ONE, "a1", code=code, message=f"no {code}")
        last = history(ledger)[-1]
        assert (last.event, last.count, last.code, last.message) == ("sent_again", 3, 455, "no 455")

    def test_a_second_task_of_one_attempt_is_kept_and_moves_nothing(self, ledger):
        submit(ledger, 1)
        ledger.record_separated(ONE, "T1", ME)
        before = ledger.read(ONE)
        ledger.record_submitted(ONE, "a1", "T9")
        after = ledger.read(ONE)
        assert (after.state, after.attempts) == (before.state, before.attempts)
        assert (after.history[-1].event, after.history[-1].vendor_task_id) == ("submitted", "T9")


def test_a_landing_names_each_stem_with_its_digest(ledger):
    submit(ledger, 1)
    ledger.record_landed(
        ONE, "s3://x/m.json", Landing(at=NOW, vendor_task_id="T1", stems=1, bytes=9), ME, (FILE,)
    )
    assert history(ledger)[-1].files == (FILE,)
    assert json.loads(ledger.read(ONE).to_json())["history"][-1]["files"] == [FILE.model_dump()]


def test_a_landing_is_told_in_its_turn_and_keeps_the_time_of_its_manifest(ledger):
    submit(ledger, 1)
    ledger.now = lambda: NOW + timedelta(seconds=5)
    other = ME.model_copy(update={"run_id": "r2"})
    ledger.claim(ONE, Intent(attempt_id="a2", asked_by=other, track_key="one"))
    ledger.record_landed(ONE, "s3://x/m.json", Landing(at=NOW, vendor_task_id="T1", stems=1, bytes=9), ME)
    times = [event.at for event in history(ledger)]
    assert times == sorted(times)
    assert ledger.read(ONE).landings["s3://x/m.json"].at == NOW


class TestTries:
    def test_that_attach_have_a_line_each(self, ledger):
        submit(ledger, 1)
        for number in (2, 3):
            asker = ME.model_copy(update={"try_number": number})
            ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asker, track_key="one"))
        attached = [event.by.try_number for event in history(ledger) if event.event == "attached"]
        assert attached == [2, 3]

    def test_of_other_runs_are_counted_together(self, ledger):
        submit(ledger, 1)
        for number in (2, 3):
            asker = ME.model_copy(update={"run_id": f"r{number}"})
            ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asker, track_key="one"))
        last = history(ledger)[-1]
        assert (last.event, last.count, last.by.run_id) == ("attached", 2, "r3")


def test_an_entry_of_the_first_version_is_read_and_written_on(ledger):
    """As 0.1.0's first builds wrote it: no user, credits, status or files."""
    old = {
        "schema_version": 1, "account": "sunoapi", "source": "t/a", "separation_type": "split_stem",
        "track_key": "one", "state": "submitted",
        "attempts": [{"attempt_id": "a1", "asked_by": {"dag_id": "d", "run_id": "r1", "task_id": "separate", "map_index": 3},
                      "claimed_at": "2026-11-23T00:00:00Z", "vendor_task_id": "T1", "submitted_at": "2026-11-23T00:00:01Z"}],
        "history": [{"at": "2026-11-23T00:00:00Z", "event": "claimed"},
                    {"at": "2026-11-23T00:00:01Z", "event": "submitted", "vendor_task_id": "T1"}],
    }  # fmt: skip
    ledger.store.write(ONE, LedgerEntry.model_validate_json(json.dumps(old)), None)
    assert ledger.paid_by(ONE, ME) == (1, 50)
    ledger.record_separated(ONE, "T1", ME, status="SUCCESS")
    assert [event.event for event in history(ledger)] == ["claimed", "submitted", "separated"]
