"""Two DAG runs write one ledger entry at the same time, in hundreds of orders."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from protocol_runs import missing, state_by
from protocol_world import Process, Store, no_threads_and_no_pauses

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    EntryState,
    Event,
    Identity,
    Intent,
    Landing,
    Ledger,
    Submit,
    TaskInstanceRef,
)

ONE = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
ORDERS = 400
STATES = [EntryState.CLAIMED, EntryState.SUBMITTED, EntryState.SEPARATED, EntryState.LANDED]


class Run:
    """A DAG run that submits the track if it holds the claim, lands it, and notes each step."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.asker = TaskInstanceRef(dag_id="d", run_id=name, task_id="separate", try_number=1)
        self.ticks = iter(range(10_000))
        self.ledger = Ledger(store, now=lambda: NOW + timedelta(seconds=next(self.ticks)))

    def note(self, step: int) -> None:
        self.ledger.append_event(ONE, "noted", by=self.asker, message=f"{self.name} {step}")

    def go(self) -> None:
        intent = Intent(f"attempt of {self.name}", self.asker, "one", calls_back=True)
        decision = self.ledger.claim(ONE, intent)
        self.note(0)
        if isinstance(decision, Submit):
            self.ledger.record_submitted(ONE, decision.attempt_id, "T1")
        while (known := self.ledger.read(ONE)) is None or known.current.vendor_task_id is None:
            pass
        callback = Event(
            at=NOW,
            event="called_back",
            by=self.asker,
            vendor_task_id="T1",
            attempt_id=known.current.attempt_id,
        )
        self.ledger.record_callbacks(ONE, lambda _: [callback])
        self.ledger.record_separated(ONE, "T1", self.asker)
        self.note(1)
        landing = Landing(at=self.ledger.now(), vendor_task_id="T1", stems=2, bytes=9)
        self.ledger.record_landed(ONE, f"s3://{self.name}/manifest.json", landing, self.asker)
        self.note(2)


def on_write(before, after):
    assert after.state == state_by(after.history)
    if before is not None:
        assert missing(before, after) == []
        assert STATES.index(after.state) >= STATES.index(before.state)


def test_two_writers_lose_no_event_and_undo_no_state():
    orders = set()
    with no_threads_and_no_pauses():
        for seed in range(ORDERS):
            chance, store, order = random.Random(seed), Store(on_write), []
            runs = [Process(Run(name, store).go) for name in ("left", "right")]
            while alive := [run for run in runs if run.alive]:
                order.append(chance.choice(alive))
                order[-1].step()

            (entry,) = store.entries()
            counts = Counter(event.event for event in entry.history)
            assert entry.state is EntryState.LANDED
            expected = {"claimed": 1, "submitted": 1, "called_back": 1, "landed": 2}
            assert {name: counts[name] for name in expected} == expected
            noted = sorted(event.message for event in entry.history if event.event == "noted")
            assert noted == [f"{name} {step}" for name in ("left", "right") for step in range(3)]
            assert set(entry.landings) == {"s3://left/manifest.json", "s3://right/manifest.json"}
            orders.add(tuple(run is runs[0] for run in order))
    assert len(orders) > 0.9 * ORDERS


def test_store_without_conditions_loses_events(monkeypatch):
    """Show that the test above would fail if the second of two writers won."""
    write = Store.write
    monkeypatch.setattr(
        Store,
        "write",
        lambda self, identity, entry, _: write(
            self, identity, entry, str(self._entries[identity.digest][1]) if self._entries else None
        ),
    )

    with pytest.raises(AssertionError):
        test_two_writers_lose_no_event_and_undo_no_state()
