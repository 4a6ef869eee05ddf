"""
Every change that a ledger entry can go through, as plain functions of (entry, what happened, time).

They know no store and no clock. Each either changes the entry it is given (the caller hands in its own copy)
and returns what that means, or leaves it as it was. None ever undoes a later state: a record that comes late
is kept in the history and changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import CREDITS
from airflow_provider_vocalsep.ledger.entry import (
    Attempt,
    EntryState,
    Event,
    Identity,
    Landing,
    LedgerEntry,
    Outcome,
    TaskInstanceRef,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_vocalsep.ledger.entry import File

    #: Lines of the history about the callbacks that came for an attempt, by its id.
    CallbackLookup = Callable[[str], Sequence[Event]]

#: How long a claim of somebody else is taken to be in the middle of its submit. Longer than the client's
#: connect and read time-outs together (``client.TIMEOUT``), so an older claim's process is no longer sending.
IN_FLIGHT = timedelta(seconds=180)

#: Events that only count up while nothing else happens in between, so that a nightly run over a
#: catalogue that landed long ago does not grow every entry for ever.
_COLLAPSED = frozenset({"skipped", "attached", "sent_again", "left_in_doubt"})


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
    asked_by: TaskInstanceRef
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
    reports_to: TaskInstanceRef | None = None


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
    :raises ClaimLostError: this attempt had the claim already and somebody has given it up.
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
    held = entry.holder(intent.fingerprint)
    if _is_ours(entry, held, intent):
        return None, Submit(intent.attempt_id)
    if held is None:
        return _add_attempt(entry, intent, now, message="the audio behind this source has changed")
    if is_unpaid(entry, intent.fingerprint):
        return _add_attempt(entry, intent, now)
    if held.vendor_task_id is None or held.submitted_at is None:
        others = held.asked_by.instance != intent.asked_by.instance
        return None, InDoubt(held, in_flight=others and now - held.claimed_at < IN_FLIGHT)
    known = held.vendor_task_id, held.submitted_at, held.attempt_id
    landing = entry.landings.get(manifest_uri or "")
    if landing is not None and landing.vendor_task_id == held.vendor_task_id:
        return None, Landed(*known)
    append_event(entry, "attached", now, by=intent.asked_by, vendor_task_id=held.vendor_task_id)
    return entry, Attach(*known, reports_to=held.asked_by if held.calls_back else None)


def is_unpaid(entry: LedgerEntry | None, fingerprint: str) -> bool:
    """
    Tell whether a claim would be a new purchase.

    :param entry: What the ledger holds, ``None`` for nothing.
    :param fingerprint: Version of the audio. One that was paid for stays paid for, also when it is no longer the latest:
        a process may have looked at the file before somebody replaced it.
    """
    held = entry.holder(fingerprint) if entry else None
    if entry is None or held is None:
        return True
    return entry.state is EntryState.FAILED if held is entry.current else held.outcome is not None


def take_over(
    entry: LedgerEntry, lost: Attempt, intent: Intent, now: datetime
) -> tuple[LedgerEntry | None, Decision]:
    """
    Submit anew in place of an attempt whose answer was lost. This may pay a second time.

    :raises ClaimLostError: when the attempt in doubt has been answered or taken over meanwhile, or this one was.
    """
    held = entry.holder(lost.fingerprint)
    if _is_ours(entry, held, intent):
        return None, Submit(intent.attempt_id)
    if held is None or held.attempt_id != lost.attempt_id or held.vendor_task_id is not None:
        raise ClaimLostError(f"attempt {lost.attempt_id} is no longer in doubt")
    append_event(entry, "submit_given_up", now, by=intent.asked_by, attempt_id=lost.attempt_id)
    return _add_attempt(entry, intent, now, message="the answer to the submit before was lost")


def _is_ours(entry: LedgerEntry, held: Attempt | None, intent: Intent) -> bool:
    """
    Tell whether an attempt has the claim already, by a write of its own whose answer the store lost.

    :raises ClaimLostError: it had, and somebody has given it up since.
    """
    if held is not None and held.attempt_id == intent.attempt_id:
        return True
    if entry.attempt(intent.attempt_id) is not None:
        raise ClaimLostError(f"attempt {intent.attempt_id} was given up before it knew that it had the claim")
    return False


def renew(
    entry: LedgerEntry, attempt_id: str, now: datetime, *, code: int | None = None, message: str | None = None
) -> None:
    """
    Write the intent afresh, right before the submit is sent once more after a refusal.

    :param entry: The entry.
    :param attempt_id: The attempt.
    :param now: The time.
    :param code: The vendor's code of the refusal.
    :param message: The refusal in words.
    :raises ClaimLostError: when another attempt holds the claim.
    """
    attempt = _attempt(entry, attempt_id)
    held = entry.holder(attempt.fingerprint)
    if held is not None and held is not attempt:
        raise ClaimLostError(f"attempt {held.attempt_id} of {held.asked_by} holds the claim")
    attempt.claimed_at = now
    asker = attempt.asked_by
    append_event(entry, "sent_again", now, by=asker, attempt_id=attempt_id, code=code, message=message)


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
    append_event(
        entry, event, now, by=attempt.asked_by, attempt_id=attempt_id, vendor_task_id=vendor_task_id,
        credits=price_of(entry),
    )  # fmt: skip
    if attempt.vendor_task_id is not None:
        return
    attempt.vendor_task_id, attempt.submitted_at = vendor_task_id, now
    if entry.current is attempt:
        attempt.outcome = None
        entry.state = EntryState.SUBMITTED


def record_callbacks(entry: LedgerEntry, heard: CallbackLookup) -> None:
    """
    Keep the callbacks that came, each once: a later look at the same one only brings its count up to date.

    Those of earlier attempts too: the vendor may call back about a task that failed when the next one is under way.

    :param entry: The entry.
    :param heard: Tells what came for an attempt.
    """
    for attempt in entry.attempts:
        for line in heard(attempt.attempt_id) if attempt.calls_back else ():
            _record_callback(entry, attempt.attempt_id, line)


def _record_callback(entry: LedgerEntry, attempt_id: str, line: Event) -> None:
    which = (line.event, attempt_id, line.vendor_task_id)
    for event in entry.history:
        if (event.event, event.attempt_id, event.vendor_task_id) == which:
            if line.count > event.count:
                event.count, event.last_at = line.count, line.last_at
            return
    entry.history.append(line)


def record_submit_lost(entry: LedgerEntry, attempt_id: str, message: str, now: datetime) -> None:
    """Keep that a submit was sent and its answer lost. The entry stays claimed."""
    attempt = _attempt(entry, attempt_id)
    append_event(entry, "submit_lost", now, by=attempt.asked_by, attempt_id=attempt_id, message=message)


def record_failed(
    entry: LedgerEntry,
    attempt_id: str,
    outcome: Outcome,
    now: datetime,
    *,
    event: str = "failed",
    status: str | None = None,
) -> None:
    """
    Keep that an attempt came to nothing.

    :param entry: The entry.
    :param attempt_id: The attempt.
    :param outcome: How.
    :param now: The time.
    :param event: ``failed`` for a task that the vendor gave up, ``submit_refused`` for one it never took.
    :param status: The vendor's word for the state of its task.
    """
    attempt = _attempt(entry, attempt_id)
    if attempt.outcome is not None and attempt.outcome.final == outcome.final:
        return
    given_back = outcome.verdict is Verdict.REFUNDED and attempt.outcome is None and attempt.vendor_task_id
    attempt.outcome = outcome
    append_event(
        entry,
        event,
        now,
        by=attempt.asked_by,
        attempt_id=attempt_id,
        vendor_task_id=attempt.vendor_task_id,
        code=outcome.code,
        message=outcome.message,
        status=status,
        credits=-price_of(entry) if given_back else None,
    )
    if entry.current is attempt and entry.state is not EntryState.LANDED:
        entry.state = EntryState.FAILED


def record_separated(
    entry: LedgerEntry,
    vendor_task_id: str,
    asked_by: TaskInstanceRef,
    now: datetime,
    *,
    status: str | None = None,
) -> None:
    """Keep that the vendor is done, in its own word ``status``."""
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
    """Keep that the stems and their manifest are in the bucket, and which bytes they were."""
    entry.landings[manifest_uri] = landing
    append_event(
        entry, "landed", now, by=asked_by, vendor_task_id=landing.vendor_task_id,
        message=f"{landing.stems} stems, {landing.bytes} bytes, {manifest_uri}", files=files,
    )  # fmt: skip
    if entry.current.vendor_task_id == landing.vendor_task_id:
        entry.state = EntryState.LANDED


def append_event(
    entry: LedgerEntry, event: str, now: datetime, *, by: TaskInstanceRef | None = None, **said: Any
) -> None:
    """
    Append to the history; an event of the quiet kind that repeats is counted instead.

    :param entry: The entry.
    :param event: What happened, in one word.
    :param now: The time.
    :param by: Who was at it.
    :param said: Other fields of :class:`~airflow_provider_vocalsep.ledger.entry.Event`.
    """
    last = entry.history[-1] if entry.history else None
    if last is not None and last.event == event and event in _COLLAPSED and not _is_retry(event, last.by, by):
        last.count, last.last_at, last.by = last.count + 1, now, by
        last.code, last.message = said.get("code"), said.get("message")
        return
    entry.history.append(Event(at=now, event=event, by=by, **said))


def _is_retry(event: str, before: TaskInstanceRef | None, by: TaskInstanceRef | None) -> bool:
    """Tell whether this is another try of the same task instance, which people want to see for itself."""
    if event != "attached" or before is None or by is None:
        return False
    return before.instance == by.instance and before.try_number != by.try_number


def price_of(entry: LedgerEntry) -> float:
    """Return the credits that one submission costs."""
    return float(CREDITS[entry.separation_type])


def paid_by(entry: LedgerEntry, asker: TaskInstanceRef) -> tuple[int, float]:
    """
    Count what a task instance has paid for, in all its tries.

    :param entry: The entry.
    :param asker: The task instance.
    :return: Submissions that the vendor took, and their credits without those given back.
    """
    ours = [a for a in entry.attempts if a.vendor_task_id and a.asked_by.instance == asker.instance]
    kept = [a for a in ours if a.outcome is None or a.outcome.verdict is not Verdict.REFUNDED]
    return len(ours), price_of(entry) * len(kept)


def count_failed_submissions(entry: LedgerEntry, asker: TaskInstanceRef, vendor_task_id: str) -> int:
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
    append_event(entry, "claimed", now, by=intent.asked_by, attempt_id=intent.attempt_id, message=message)
    return entry, Submit(intent.attempt_id)


def _attempt(entry: LedgerEntry, attempt_id: str) -> Attempt:
    attempt = entry.attempt(attempt_id)
    if attempt is None:
        raise ClaimLostError(f"the ledger entry of {entry.track_key!r} has no attempt {attempt_id}")
    return attempt
