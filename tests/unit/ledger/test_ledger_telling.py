"""Whom the ledger tells of what it writes: each line of the history once, when it is in the store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import count

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Identity,
    Intent,
    Ledger,
    LedgerConflictError,
    LedgerError,
    MemoryLedgerStore,
    Outcome,
    TaskInstanceRef,
)

ONE = Identity("sunoapi", "t/a", SeparationType.SPLIT_STEM)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", try_number=1)
START = datetime(2026, 11, 23, tzinfo=timezone.utc)


class FlakyStore(MemoryLedgerStore):
    """Loses the answer to the next writes, or lets somebody else write first."""

    def __init__(self) -> None:
        super().__init__()
        self.lose_answers = 0
        self.refuse = 0
        self.first = None

    def write(self, identity, entry, version):
        if self.refuse:
            self.refuse -= 1
            raise LedgerError("the store is away")
        if self.first:
            first, self.first = self.first, None
            first()
        written = super().write(identity, entry, version)
        if self.lose_answers:
            self.lose_answers -= 1
            raise LedgerConflictError("taken, and the retry of the request met its own write")
        return written


@pytest.fixture
def store():
    return FlakyStore()


@pytest.fixture
def ledger(store):
    ticks = count()
    ledger = Ledger(store, now=lambda: START + timedelta(seconds=next(ticks)))
    ledger.told = []
    ledger.on_event = lambda entry, event: ledger.told.append((event.event, entry.to_json()))
    return ledger


def told(ledger):
    return [name for name, _ in ledger.told]


def claim(ledger, attempt_id="a1", asker=ME):
    return ledger.claim(ONE, Intent(attempt_id=attempt_id, asked_by=asker, track_key="one"))


def test_each_line_is_told_once_with_the_entry_that_is_in_the_store(ledger):
    claim(ledger)
    ledger.record_submitted(ONE, "a1", "T1")
    ledger.record_submitted(ONE, "a1", "T1")
    assert told(ledger) == ["claimed", "submitted"]
    assert ledger.told[-1][1] == ledger.read(ONE).to_json()


def test_what_only_counts_up_is_told_each_time(ledger):
    claim(ledger)
    for _ in range(3):
        ledger.append_event(ONE, "skipped", by=ME)
    assert [event.event for event in ledger.read(ONE).history] == ["claimed", "skipped"]
    assert told(ledger) == ["claimed", "skipped", "skipped", "skipped"]


def test_a_lost_swap_tells_nothing_and_the_one_that_counts_is_told(ledger, store):
    claim(ledger)
    other = Ledger(store, now=ledger.now)
    store.first = lambda: other.append_event(ONE, "wait_ended", by=ME)
    ledger.record_submitted(ONE, "a1", "T1")
    assert told(ledger) == ["claimed", "submitted"]
    assert [event.event for event in ledger.read(ONE).history] == ["claimed", "wait_ended", "submitted"]


def test_a_write_whose_answer_was_lost_is_told_once(ledger, store):
    claim(ledger)
    store.lose_answers = 1
    ledger.record_submitted(ONE, "a1", "T1")
    assert told(ledger) == ["claimed", "submitted"]


def test_a_claim_that_somebody_else_won_is_not_told(ledger, store):
    other = Ledger(store, now=ledger.now)
    store.first = lambda: claim(other, "theirs", ME.model_copy(update={"run_id": "r2"}))
    claim(ledger)
    assert told(ledger) == []


def test_a_store_that_does_not_take_it_is_told_nothing(ledger, store):
    store.refuse = 1
    with pytest.raises(LedgerError):
        claim(ledger)
    assert told(ledger) == []


def test_a_failure_tells_its_line(ledger):
    claim(ledger)
    ledger.record_submitted(ONE, "a1", "T1")
    ledger.record_task_failed(ONE, "T1", Outcome(at=START, verdict=Verdict.RETRY))
    assert told(ledger)[-1] == "failed"
