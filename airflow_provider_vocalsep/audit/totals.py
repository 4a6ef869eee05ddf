"""What was paid, refused, called back and landed, by the history of a ledger entry."""

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
    A part of what happened.

    :param dag_id: Only of this DAG.
    :param run_id: Only of this DAG run.
    :param since: Only from this time on.
    :param until: Only before this time.
    """

    dag_id: str | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def covers(self, by: TaskInstanceRef | None, first: datetime, last: datetime | None = None) -> bool:
        """Return whether something that a task instance did, between two times, is part of it."""
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
    Counts and credits.

    :param submits: Submits that the vendor accepted.
    :param credits: Credits charged for them.
    :param given_back: Credits that the vendor gave back.
    :param failures: Vendor tasks that failed.
    :param refusals: Submits that the vendor refused with a code; nothing was charged.
    :param callbacks: The vendor's callbacks, repeated ones included.
    :param landings: How often stems landed.
    :param in_doubt: Submits that the vendor may have accepted: their answers were lost.
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
        """Add other totals."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def as_dict(self) -> dict[str, Any]:
        """Return them by name."""
        return asdict(self)


def add_up_history(entry: LedgerEntry, scope: Scope = ALL) -> Totals:
    """
    Add up the history of an entry.

    :param entry: The entry, of this version or an older one.
    :param scope: Only this part of the history.
    """
    totals, failed = Totals(), set()
    for event in entry.history:
        is_repeated = event.event == "failed" and event.vendor_task_id in failed
        if event.event == "failed":
            failed.add(event.vendor_task_id)
        if scope.covers(event.by, event.at, event.last_at) and not is_repeated:
            _add_event(totals, entry, event)
    totals.in_doubt = sum(scope.covers(attempt.asked_by, attempt.claimed_at) for attempt in entry.unanswered)
    return totals


def _add_event(totals: Totals, entry: LedgerEntry, event: Event) -> None:
    if event.event in ("submitted", "adopted"):
        totals.submits += 1
        totals.credits += price_of(entry) if event.credits is None else event.credits
    elif event.event == "failed":
        totals.failures += 1
        totals.given_back += _refund_of(entry, event)
    elif event.event in ("submit_refused", "sent_again"):
        totals.refusals += event.count if event.code is not None else 0
    elif event.event == "called_back":
        totals.callbacks += event.count
    elif event.event == "landed":
        totals.landings += 1


def _refund_of(entry: LedgerEntry, event: Event) -> float:
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
    """Return the latest event of the history in a scope, ``None`` if there is none."""
    covered: Iterable[Event] = (e for e in entry.history if scope.covers(e.by, e.at, e.last_at))
    return max(covered, key=lambda e: e.last_at or e.at, default=None)
