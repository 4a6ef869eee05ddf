"""What a ledger entry says was paid, refused, called back and landed: the counterpart of the vendor's own books."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.ledger.transitions import price_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_provider_vocalsep.ledger import Event, LedgerEntry, TaskInstanceRef


@dataclass(frozen=True)
class Scope:
    """
    Which part of what happened is asked for.

    :param dag_id: Of this DAG only.
    :param run_id: Of this DAG run only.
    :param since: Not before.
    :param until: Before.
    """

    dag_id: str | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def covers(self, by: TaskInstanceRef | None, first: datetime, last: datetime | None = None) -> bool:
        """Tell whether something belongs to it: who was at it, and when it happened, first and last."""
        if self.dag_id is not None and (by is None or by.dag_id != self.dag_id):
            return False
        if self.run_id is not None and (by is None or by.run_id != self.run_id):
            return False
        if self.since is not None and (last or first) < self.since:
            return False
        return self.until is None or first < self.until


#: Everything.
ALL = Scope()


@dataclass
class Totals:
    """
    Sums.

    :param submits: Submissions that the vendor took.
    :param credits: Credits that they were charged with.
    :param given_back: Credits that the vendor gave back.
    :param failures: Vendor tasks that the vendor gave up.
    :param refusals: Submissions that the vendor turned away with a code; nothing was charged.
    :param callbacks: Deliveries of the vendor that the history knows of, repeated ones too.
    :param landings: Times that stems landed.
    :param in_doubt: Submissions of which it is not known whether the vendor took them.
    """

    submits: int = 0
    credits: float = 0.0
    given_back: float = 0.0
    failures: int = 0
    refusals: int = 0
    callbacks: int = 0
    landings: int = 0
    in_doubt: int = 0

    def add(self, other: Totals) -> None:
        """Add another's sums."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def as_dict(self) -> dict[str, Any]:
        """Return the sums by name."""
        return asdict(self)


def books_of(entry: LedgerEntry, scope: Scope = ALL) -> Totals:
    """
    Add up what an entry's history says.

    :param entry: The entry, of this version or an older one.
    :param scope: Which part of it.
    """
    books, given_up = Totals(), set()
    for event in entry.history:
        first_word = (event.event, event.vendor_task_id) not in given_up
        if event.event == "failed":
            given_up.add((event.event, event.vendor_task_id))
        if scope.covers(event.by, event.at, event.last_at) and first_word:
            _book(books, entry, event)
    books.in_doubt = sum(scope.covers(attempt.asked_by, attempt.claimed_at) for attempt in entry.unanswered)
    return books


def _book(books: Totals, entry: LedgerEntry, event: Event) -> None:
    if event.event in ("submitted", "adopted"):
        books.submits += 1
        books.credits += price_of(entry) if event.credits is None else event.credits
    elif event.event == "failed":
        books.failures += 1
        books.given_back += _given_back(entry, event)
    elif event.event in ("submit_refused", "sent_again"):
        books.refusals += event.count if event.code is not None else 0
    elif event.event == "called_back":
        books.callbacks += event.count
    elif event.event == "landed":
        books.landings += 1


def _given_back(entry: LedgerEntry, event: Event) -> float:
    if event.credits is not None:
        return -event.credits
    refunded = any(
        attempt.vendor_task_id == event.vendor_task_id
        and attempt.outcome is not None
        and attempt.outcome.verdict is Verdict.REFUNDED
        for attempt in entry.attempts
    )
    return price_of(entry) if refunded else 0.0


def last_event(entry: LedgerEntry, scope: Scope = ALL) -> Event | None:
    """Return the latest line of the history in a scope, ``None`` if there is none."""
    covered: Iterable[Event] = (e for e in entry.history if scope.covers(e.by, e.at, e.last_at))
    return max(covered, key=lambda e: e.last_at or e.at, default=None)
