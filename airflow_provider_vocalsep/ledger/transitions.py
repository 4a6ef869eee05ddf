"""
Record what happens to a separation, as plain functions of (entry, what happened, time).

They know no store and no clock, and change the entry that the caller passes. None undoes a later state: a
record that arrives late is added to the history and changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import CREDITS
from airflow_provider_vocalsep.ledger.entry import EntryState, Event
from airflow_provider_vocalsep.ledger.errors import ClaimLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow_provider_vocalsep.ledger.entry import (
        Attempt,
        File,
        Landing,
        LedgerEntry,
        Outcome,
        TaskInstanceRef,
    )

    #: Return the events of the callbacks that arrived for an attempt id.
    CallbackLookup = Callable[[str], Sequence[Event]]

#: Events that count up when they repeat in a row, so that a nightly run over a catalogue that has landed does
#: not grow every entry without limit.
_COUNTED_EVENTS = frozenset({"skipped", "attached", "left_in_doubt"})

#: Events that take turns while the vendor refuses a submit; each counts up.
_REFUSAL_EVENTS = frozenset({"submit_refused", "sent_again"})


def record_submitted(
    entry: LedgerEntry, attempt_id: str, vendor_task_id: str, now: datetime, *, event: str = "submitted"
) -> None:
    """
    Record the vendor's answer to a submit. From now on every claim attaches to this task and none pays again.

    :param event: ``adopted`` when the answer was lost and a callback named the task.
    """
    attempt = get_attempt(entry, attempt_id)
    if attempt.vendor_task_id == vendor_task_id:
        return
    price = price_of(entry)
    _append_attempt_event(entry, attempt, event, now, vendor_task_id=vendor_task_id, credits=price)
    if attempt.vendor_task_id is not None:
        return
    attempt.vendor_task_id, attempt.submitted_at = vendor_task_id, now
    if entry.current is attempt:
        attempt.outcome = None
        entry.state = EntryState.SUBMITTED


def record_submit_lost(entry: LedgerEntry, attempt_id: str, message: str, now: datetime) -> None:
    """Record that a submit was sent and its answer lost. The entry stays claimed."""
    _append_attempt_event(entry, get_attempt(entry, attempt_id), "submit_lost", now, message=message)


def record_callbacks(entry: LedgerEntry, find_callbacks: CallbackLookup) -> None:
    """
    Record the callbacks that arrived, each once; a callback that is already recorded only updates its count.

    Callbacks of earlier attempts count too: the vendor may call back about a failed task while the next
    attempt is under way.
    """
    for attempt in entry.attempts:
        for callback in find_callbacks(attempt.attempt_id) if attempt.calls_back else ():
            _record_callback(entry, attempt.attempt_id, callback)


def _record_callback(entry: LedgerEntry, attempt_id: str, callback: Event) -> None:
    for event in entry.history:
        recorded = event.event, event.attempt_id, event.vendor_task_id
        if recorded == (callback.event, attempt_id, callback.vendor_task_id):
            if callback.count > event.count:
                event.count, event.last_at = callback.count, callback.last_at
            return
    entry.history.append(callback)


def record_refused(entry: LedgerEntry, attempt_id: str, outcome: Outcome, now: datetime) -> None:
    """
    Record that the vendor refused a submit, so that nothing is paid. Anyone may claim the entry now.

    A refusal that is not final, such as "too fast", is recorded before the process waits to send again: if it
    is killed then, no submit is in doubt.
    """
    attempt = get_attempt(entry, attempt_id)
    if attempt.outcome == outcome:
        return
    attempt.outcome = outcome
    code, message = outcome.code, outcome.message
    _append_attempt_event(entry, attempt, "submit_refused", now, code=code, message=message)
    if entry.current is attempt:
        entry.state = EntryState.FAILED if outcome.final else EntryState.REFUSED


def record_failed(
    entry: LedgerEntry, attempt_id: str, outcome: Outcome, now: datetime, *, status: str | None = None
) -> None:
    """
    Record that the vendor failed the task of an attempt.

    :param status: The vendor's status of its task.
    """
    attempt = get_attempt(entry, attempt_id)
    if attempt.outcome is not None and attempt.outcome.final == outcome.final:
        return
    is_refund = outcome.verdict is Verdict.REFUNDED and attempt.outcome is None and attempt.vendor_task_id
    attempt.outcome = outcome
    _append_attempt_event(
        entry,
        attempt,
        "failed",
        now,
        vendor_task_id=attempt.vendor_task_id,
        code=outcome.code,
        message=outcome.message,
        status=status,
        credits=-price_of(entry) if is_refund else None,
    )
    if entry.current is attempt and entry.state is not EntryState.LANDED:
        entry.state = EntryState.FAILED


def record_task_failed(
    entry: LedgerEntry, vendor_task_id: str, outcome: Outcome, now: datetime, *, status: str | None = None
) -> None:
    """
    Record that the vendor failed a task.

    :param status: The vendor's status of the task.
    """
    for attempt in entry.attempts:
        if attempt.vendor_task_id == vendor_task_id:
            record_failed(entry, attempt.attempt_id, outcome, now, status=status)


def record_separated(
    entry: LedgerEntry,
    vendor_task_id: str,
    asked_by: TaskInstanceRef,
    now: datetime,
    *,
    status: str | None = None,
) -> None:
    """
    Record that the vendor has finished a task.

    :param status: The vendor's status of the task.
    """
    if entry.state is EntryState.SUBMITTED and entry.current.vendor_task_id == vendor_task_id:
        entry.state = EntryState.SEPARATED
        append_event(entry, "separated", now, by=asked_by, vendor_task_id=vendor_task_id, status=status)


def record_landed(
    entry: LedgerEntry,
    manifest_uri: str,
    landing: Landing,
    asked_by: TaskInstanceRef,
    now: datetime,
    files: tuple[File, ...] | None = None,
) -> None:
    """
    Record that the stems and their manifest have landed.

    :param files: The stems with their digests.
    """
    task = landing.vendor_task_id
    entry.landings[manifest_uri] = landing
    message = f"{landing.stems} stems, {landing.bytes} bytes, {manifest_uri}"
    append_event(entry, "landed", now, by=asked_by, vendor_task_id=task, message=message, files=files)
    if entry.current.vendor_task_id == task:
        entry.state = EntryState.LANDED


def append_event(
    entry: LedgerEntry, event: str, now: datetime, *, by: TaskInstanceRef | None = None, **fields: Any
) -> None:
    """
    Append an event to the history, or count it if it repeats the last event and is one that counts up.

    :param event: Name of the event.
    :param by: The task instance that causes it.
    :param fields: Other fields of :class:`~airflow_provider_vocalsep.ledger.entry.Event`.
    """
    repeated = _find_repeated(entry.history, event, by, fields.get("attempt_id"))
    if repeated is not None:
        repeated.count, repeated.last_at, repeated.by = repeated.count + 1, now, by
        repeated.code, repeated.message = fields.get("code"), fields.get("message")
        return
    entry.history.append(Event(at=now, event=event, by=by, **fields))


def _append_attempt_event(
    entry: LedgerEntry, attempt: Attempt, event: str, now: datetime, **fields: Any
) -> None:
    append_event(entry, event, now, by=attempt.asked_by, attempt_id=attempt.attempt_id, **fields)


def _find_repeated(
    history: list[Event], event: str, by: TaskInstanceRef | None, attempt_id: str | None
) -> Event | None:
    """Return the event at the end of the history that an event repeats."""
    if event in _REFUSAL_EVENTS:
        last_two = [e for e in history[-2:] if e.event in _REFUSAL_EVENTS and e.attempt_id == attempt_id]
        return next((e for e in last_two if e.event == event), None)
    return history[-1] if history and _counts_up(history[-1], event, by) else None


def _counts_up(last: Event, event: str, by: TaskInstanceRef | None) -> bool:
    if last.event != event or event not in _COUNTED_EVENTS:
        return False
    if event != "attached" or last.by is None or by is None:
        return True
    # Another try of the same task instance gets its own event: users look for it in the history.
    return last.by.instance != by.instance or last.by.try_number == by.try_number


def price_of(entry: LedgerEntry) -> float:
    """Return the credits that one submission costs."""
    return float(CREDITS[entry.separation_type])


def paid_by(entry: LedgerEntry, asked_by: TaskInstanceRef) -> tuple[int, float]:
    """
    Count what a task instance has paid for, in all its tries.

    :return: Submissions that the vendor accepted, and their credits without refunds.
    """
    accepted = [a for a in entry.attempts if a.vendor_task_id and a.asked_by.instance == asked_by.instance]
    charged = [a for a in accepted if a.outcome is None or a.outcome.verdict is not Verdict.REFUNDED]
    return len(accepted), price_of(entry) * len(charged)


def count_failed_submissions(entry: LedgerEntry, asked_by: TaskInstanceRef, vendor_task_id: str) -> int:
    """
    Count the paid tasks in a row that the vendor failed for a task instance, ``vendor_task_id`` included.

    Refunded attempts and refused submits cost nothing and do not count. After a final failure only a person
    or a new DAG run claims again, so the count starts from there.
    """
    count = 0
    for attempt in reversed(entry.attempts):
        outcome = attempt.outcome
        is_this = attempt.vendor_task_id == vendor_task_id
        is_other_instance = attempt.asked_by.instance != asked_by.instance
        if not is_this and (outcome is None or outcome.final or is_other_instance):
            break
        if is_this or (attempt.vendor_task_id and outcome and outcome.verdict is not Verdict.REFUNDED):
            count += 1
    return count


def get_attempt(entry: LedgerEntry, attempt_id: str) -> Attempt:
    """
    Return an attempt by its id.

    :raises ClaimLostError: the entry has no such attempt.
    """
    attempt = entry.attempt(attempt_id)
    if attempt is None:
        raise ClaimLostError(f"the ledger entry of {entry.track_key!r} has no attempt {attempt_id}")
    return attempt
