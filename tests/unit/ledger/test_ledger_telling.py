"""``on_event`` of the ledger: called once for each event, after it is in the store."""

from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Identity,
    Intent,
    Ledger,
    LedgerError,
    Outcome,
    TaskInstanceRef,
)
from tests.support.flaky_ledger_store import FlakyLedgerStore
from tests.support.manual_clock import START, ManualClock

ONE = Identity("sunoapi", "t/a", SeparationType.SPLIT_STEM)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", try_number=1)
OTHER_RUN = ME.model_copy(update={"run_id": "r2"})


@pytest.fixture
def store():
    return FlakyLedgerStore()


@pytest.fixture
def calls():
    """Calls of ``on_event``: name of the event, and the entry as JSON."""
    return []


@pytest.fixture
def ledger(store, calls):
    return Ledger(
        store,
        now=ManualClock(step=1),
        on_event=lambda entry, event: calls.append((event.event, entry.to_json())),
    )


def names(calls):
    return [name for name, _ in calls]


def claim(ledger, attempt_id="a1", asked_by=ME):
    return ledger.claim(ONE, Intent(attempt_id=attempt_id, asked_by=asked_by, track_key="one"))


class TestOnEvent:
    def test_on_event_is_called_once_per_event_with_the_stored_entry(self, ledger, calls):
        claim(ledger)
        ledger.record_submitted(ONE, "a1", "T1")

        ledger.record_submitted(ONE, "a1", "T1")

        assert names(calls) == ["claimed", "submitted"]
        assert calls[-1][1] == ledger.read(ONE).to_json()

    def test_on_event_is_called_each_time_an_event_counts_up(self, ledger, calls):
        claim(ledger)
        for _ in range(3):
            ledger.append_event(ONE, "skipped", by=ME)

        assert [event.event for event in ledger.read(ONE).history] == ["claimed", "skipped"]
        assert names(calls) == ["claimed", "skipped", "skipped", "skipped"]

    def test_on_event_is_called_for_the_swap_that_succeeds_and_not_for_a_lost_one(self, ledger, store, calls):
        claim(ledger)
        other = Ledger(store, now=ledger.now)
        store.before_write = lambda: other.append_event(ONE, "wait_ended", by=ME)

        ledger.record_submitted(ONE, "a1", "T1")

        assert names(calls) == ["claimed", "submitted"]
        assert [event.event for event in ledger.read(ONE).history] == ["claimed", "wait_ended", "submitted"]

    def test_on_event_is_called_once_for_a_write_whose_answer_was_lost(self, ledger, store, calls):
        claim(ledger)
        store.answers_to_lose = 1

        ledger.record_submitted(ONE, "a1", "T1")

        assert names(calls) == ["claimed", "submitted"]

    def test_on_event_is_not_called_for_a_claim_that_another_run_won(self, ledger, store, calls):
        other = Ledger(store, now=ledger.now)
        store.before_write = lambda: claim(other, "theirs", OTHER_RUN)

        claim(ledger)

        assert names(calls) == []

    def test_on_event_is_not_called_when_the_store_refuses_the_write(self, ledger, store, calls):
        store.writes_to_refuse = 1

        with pytest.raises(LedgerError):
            claim(ledger)

        assert names(calls) == []

    def test_on_event_is_called_for_a_failed_task(self, ledger, calls):
        claim(ledger)
        ledger.record_submitted(ONE, "a1", "T1")

        ledger.record_task_failed(ONE, "T1", Outcome(at=START, verdict=Verdict.RETRY))

        assert names(calls)[-1] == "failed"
