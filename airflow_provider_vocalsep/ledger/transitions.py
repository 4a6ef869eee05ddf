"""
Every change that a ledger entry can go through, as plain functions of (entry, what happened, time).

They know no store and no clock. Each either changes the entry it is given (the caller hands in its own copy)
and returns what that means, or leaves it as it was. None ever undoes a later state: a record that comes late
is kept in the history and changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.ledger.entry import (
    Asker,
    Attempt,
    EntryState,
    Event,
    Identity,
    Landing,
    LedgerEntry,
    Outcome,
)

#: How long a claim of somebody else is taken to be in the middle of its submit. Longer than the client's
#: connect and read time-outs together (``client.TIMEOUT``), so an older claim's process is no longer sending.
IN_FLIGHT = timedelta(seconds=180)

#: Events that only count up while nothing else happens in between, so that a nightly run over a
#: catalogue that landed long ago does not grow every entry for ever.
_COLLAPSED = frozenset({"skipped", "attached", "waited"})


@dataclass(frozen=True)
class Intent:
    """
    What an attempt is about to do.

    :param attempt_id: Its random id.
    :param asked_by: Who.
    :param fingerprint: State of the audio, see :class:`~airflow_provider_vocalsep.ledger.entry.Attempt`.
    :param track_key: Key of the track.
    :param title: Its title.
    :param calls_back: See :class:`~airflow_provider_vocalsep.ledger.entry.Attempt`.
    """

    attempt_id: str
    asked_by: Asker
    track_key: str
    fingerprint: str = ""
    title: str | None = None
    calls_back: bool = False


@dataclass(frozen=True)
class Submit:
    """The claim is ours: submit, exactly once."""

    attempt_id: str


@dataclass(frozen=True)
class Attach:
    """
    The vendor has it already: wait for this task, land it, pay nothing.

    :param reports_to: Whom the vendor calls back about it; ``None`` if nobody.
    """

    vendor_task_id: str
    submitted_at: datetime
    attempt_id: str
    reports_to: Asker | None = None


@dataclass(frozen=True)
class InDoubt:
    """
    Somebody sent this submit, or was about to, and its answer is not recorded.

    :param attempt: The attempt in doubt.
    :param in_flight: It is another instance's and so young that its answer may still be on its way.
    """

    attempt: Attempt
    in_flight: bool


@dataclass(frozen=True)
class Landed:
    """The stems are in the bucket already, at the place that was asked for."""

    vendor_task_id: str
    submitted_at: datetime
    attempt_id: str


Decision = Submit | Attach | InDoubt | Landed


class ClaimLostError(Exception):
    """Another attempt has taken the claim over; whoever holds this one must not submit."""


def claim(
    entry: LedgerEntry | None,
    identity: Identity,
    intent: Intent,
    now: datetime,
    *,
    manifest_uri: str | None = None,
) -> tuple[LedgerEntry | None, Decision]:
    """
    Ask for the right to submit.

    :param entry: What the ledger holds, ``None`` for nothing.
    :param identity: What is to be paid for.
    :param intent: The attempt that asks.
    :param now: The time.
    :param manifest_uri: Where the stems are to land; ``None`` when they are not to be landed.
    :return: The entry to write (``None``: nothing to write) and what the caller may do.
    """
    if entry is None:
        entry = LedgerEntry(
            account=identity.account,
            source=identity.source,
            separation_type=identity.separation_type,
            stem_name=identity.stem_name,
            track_key=intent.track_key,
            title=intent.title,
            state=EntryState.CLAIMED,
            attempts=[_attempt_of(intent, now)],
        )
        return _claimed(entry, intent, now)
    current = entry.current
    if current.attempt_id == intent.attempt_id:  # our own write, whose answer the store lost
        return None, Submit(current.attempt_id)
    if current.fingerprint != intent.fingerprint:
        return _add_attempt(entry, intent, now, message="the audio behind this source has changed")
    if entry.state is EntryState.FAILED:
        return _add_attempt(entry, intent, now)
    if current.vendor_task_id is None or current.submitted_at is None:
        others = current.asked_by.instance != intent.asked_by.instance
        return None, InDoubt(current, in_flight=others and now - current.claimed_at < IN_FLIGHT)
    known = current.vendor_task_id, current.submitted_at, current.attempt_id
    landing = entry.landings.get(manifest_uri or "")
    if landing is not None and landing.vendor_task_id == current.vendor_task_id:
        return None, Landed(*known)
    note(entry, "attached", now, by=intent.asked_by, vendor_task_id=current.vendor_task_id)
    return entry, Attach(*known, reports_to=current.asked_by if current.calls_back else None)


def take_over(
    entry: LedgerEntry, lost: Attempt, intent: Intent, now: datetime
) -> tuple[LedgerEntry | None, Decision]:
    """
    Submit anew in place of an attempt whose answer was lost. This may pay a second time.

    :raises ClaimLostError: when the attempt in doubt has been answered or taken over meanwhile.
    """
    if entry.current.attempt_id == intent.attempt_id:
        return None, Submit(intent.attempt_id)
    if entry.current.attempt_id != lost.attempt_id or entry.current.vendor_task_id is not None:
        raise ClaimLostError(f"attempt {lost.attempt_id} is no longer in doubt")
    note(entry, "submit_given_up", now, by=intent.asked_by, attempt_id=lost.attempt_id)
    return _add_attempt(entry, intent, now, message="the answer to the submit before was lost")


def renew(entry: LedgerEntry, attempt_id: str, now: datetime) -> None:
    """
    Write the intent afresh, right before the submit is sent once more after a refusal.

    :raises ClaimLostError: when another attempt holds the claim.
    """
    if entry.current.attempt_id != attempt_id:
        raise ClaimLostError(
            f"attempt {entry.current.attempt_id} of {entry.current.asked_by} holds the claim"
        )
    entry.current.claimed_at = now


def record_submitted(
    entry: LedgerEntry, attempt_id: str, vendor_task_id: str, now: datetime, *, event: str = "submitted"
) -> None:
    """
    Keep the vendor's answer. From here on every try waits for this task and none pays again.

    :param entry: The entry.
    :param attempt_id: The attempt.
    :param vendor_task_id: The vendor task that it made.
    :param now: The time.
    :param event: ``adopted`` when the answer was lost and a callback named the task.
    """
    attempt = _attempt(entry, attempt_id)
    if attempt.vendor_task_id == vendor_task_id:
        return
    attempt.vendor_task_id, attempt.submitted_at = vendor_task_id, now
    note(entry, event, now, by=attempt.asked_by, attempt_id=attempt_id, vendor_task_id=vendor_task_id)
    if entry.current is attempt:
        attempt.outcome = None
        entry.state = EntryState.SUBMITTED


def record_callback(entry: LedgerEntry, attempt_id: str, heard: Event) -> None:
    """
    Keep a callback that came, once: a later look at the same one only brings its count up to date.

    :param entry: The entry.
    :param attempt_id: The attempt that it belongs to.
    :param heard: The line of the history.
    """
    for event in entry.history:
        if (event.event, event.attempt_id, event.vendor_task_id) == (
            heard.event,
            attempt_id,
            heard.vendor_task_id,
        ):
            event.count, event.last_at = heard.count, heard.last_at
            return
    entry.history.append(heard)


def record_doubt(entry: LedgerEntry, attempt_id: str, message: str, now: datetime) -> None:
    """Keep that a submit was sent and its answer lost. The entry stays claimed."""
    attempt = _attempt(entry, attempt_id)
    note(entry, "submit_lost", now, by=attempt.asked_by, attempt_id=attempt_id, message=message)


def record_failed(entry: LedgerEntry, attempt_id: str, outcome: Outcome, *, event: str = "failed") -> None:
    """
    Keep that an attempt came to nothing.

    :param entry: The entry.
    :param attempt_id: The attempt.
    :param outcome: How.
    :param event: ``failed`` for a task that the vendor gave up, ``submit_refused`` for one it never took.
    """
    attempt = _attempt(entry, attempt_id)
    if attempt.outcome is not None and attempt.outcome.final == outcome.final:
        return
    attempt.outcome = outcome
    note(
        entry,
        event,
        outcome.at,
        by=attempt.asked_by,
        attempt_id=attempt_id,
        vendor_task_id=attempt.vendor_task_id,
        code=outcome.code,
        message=outcome.message,
    )
    if entry.current is attempt and entry.state is not EntryState.LANDED:
        entry.state = EntryState.FAILED


def record_separated(entry: LedgerEntry, vendor_task_id: str, asked_by: Asker, now: datetime) -> None:
    """Keep that the vendor is done."""
    if entry.state is EntryState.SUBMITTED and entry.current.vendor_task_id == vendor_task_id:
        entry.state = EntryState.SEPARATED
        note(entry, "separated", now, by=asked_by, vendor_task_id=vendor_task_id)


def record_landed(entry: LedgerEntry, manifest_uri: str, landing: Landing, asked_by: Asker) -> None:
    """Keep that the stems and their manifest are in the bucket."""
    entry.landings[manifest_uri] = landing
    note(
        entry, "landed", landing.at, by=asked_by, vendor_task_id=landing.vendor_task_id,
        message=f"{landing.stems} stems, {landing.bytes} bytes, {manifest_uri}",
    )  # fmt: skip
    if entry.current.vendor_task_id == landing.vendor_task_id:
        entry.state = EntryState.LANDED


def note(
    entry: LedgerEntry,
    event: str,
    now: datetime,
    *,
    by: Asker | None = None,
    attempt_id: str | None = None,
    vendor_task_id: str | None = None,
    code: int | None = None,
    message: str | None = None,
) -> None:
    """Append to the history; an event of the quiet kind that repeats is counted instead."""
    last = entry.history[-1] if entry.history else None
    if last is not None and last.event == event and event in _COLLAPSED:
        last.count, last.last_at, last.by, last.message = last.count + 1, now, by, message
        return
    entry.history.append(
        Event(
            at=now,
            event=event,
            by=by,
            attempt_id=attempt_id,
            vendor_task_id=vendor_task_id,
            code=code,
            message=message,
        )
    )


def failed_submissions(entry: LedgerEntry, asker: Asker, vendor_task_id: str) -> int:
    """
    Count how often in a row this task instance has paid for a task that the vendor failed, this one included.

    Refunded attempts and ones that the vendor refused cost nothing. After a final failure only a person or
    a new run claims again, so counting starts anew there.
    """
    count = 0
    for attempt in reversed(entry.attempts):
        outcome = attempt.outcome
        this = attempt.vendor_task_id == vendor_task_id
        if not this and (outcome is None or outcome.final or attempt.asked_by.instance != asker.instance):
            break
        if this or (attempt.vendor_task_id and outcome and outcome.verdict is not Verdict.REFUNDED):
            count += 1
    return count


def _attempt_of(intent: Intent, now: datetime) -> Attempt:
    return Attempt(
        attempt_id=intent.attempt_id,
        asked_by=intent.asked_by,
        fingerprint=intent.fingerprint,
        claimed_at=now,
        calls_back=intent.calls_back,
    )


def _add_attempt(
    entry: LedgerEntry, intent: Intent, now: datetime, *, message: str | None = None
) -> tuple[LedgerEntry, Submit]:
    entry.attempts.append(_attempt_of(intent, now))
    return _claimed(entry, intent, now, message=message)


def _claimed(
    entry: LedgerEntry, intent: Intent, now: datetime, *, message: str | None = None
) -> tuple[LedgerEntry, Submit]:
    entry.state = EntryState.CLAIMED
    note(entry, "claimed", now, by=intent.asked_by, attempt_id=intent.attempt_id, message=message)
    return entry, Submit(intent.attempt_id)


def _attempt(entry: LedgerEntry, attempt_id: str) -> Attempt:
    attempt = entry.attempt(attempt_id)
    if attempt is None:
        raise ClaimLostError(f"the ledger entry of {entry.track_key!r} has no attempt {attempt_id}")
    return attempt
