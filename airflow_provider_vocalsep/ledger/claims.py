"""
Decide which attempt may submit, as plain functions of (entry, intent, time).

They know no store and no clock. Each returns its decision with the entry to write, or with ``None`` when
there is nothing to write; the caller passes a copy of the entry that they may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_vocalsep.ledger.entry import (
    Attempt,
    EntryState,
    Identity,
    LedgerEntry,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.errors import ClaimLostError
from airflow_provider_vocalsep.ledger.transitions import append_event, get_attempt

#: Age below which the claim of another task instance may still be submitting. Longer than the client's
#: time-outs together (``client.TIMEOUT``), so the process of an older claim is no longer sending.
IN_FLIGHT = timedelta(seconds=180)

#: States in which nothing is paid and no submit is on its way, so that anyone may claim.
_CLAIMABLE = (EntryState.REFUSED, EntryState.FAILED)


@dataclass(frozen=True)
class Intent:
    """
    An attempt that asks for the right to submit.

    :param attempt_id: Its random id.
    :param asked_by: The task instance that asks.
    :param fingerprint: Version of the audio, see :class:`~airflow_provider_vocalsep.ledger.entry.Attempt`.
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
    """The attempt holds the claim: submit exactly once."""

    attempt_id: str


@dataclass(frozen=True)
class Attach:
    """
    The separation is already paid for: wait for this vendor task and land it.

    :param reports_to: The task instance to which the vendor calls back; ``None`` when it calls back to none.
    """

    vendor_task_id: str
    submitted_at: datetime
    attempt_id: str
    reports_to: TaskInstanceRef | None = None


@dataclass(frozen=True)
class InDoubt:
    """
    Another attempt holds the claim and its answer is not recorded: its submit may have been charged.

    :param attempt: The attempt in doubt.
    :param in_flight: Whether the claim is so young that its answer may still arrive. Never true for an
        attempt of the same task instance.
    """

    attempt: Attempt
    in_flight: bool


@dataclass(frozen=True)
class Landed:
    """The stems have landed at the requested destination."""

    vendor_task_id: str
    submitted_at: datetime
    attempt_id: str


Decision = Submit | Attach | InDoubt | Landed


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

    :param entry: The entry in the ledger; ``None`` when there is none.
    :param manifest_uri: Manifest of the requested destination; ``None`` when the stems are not landed.
    :return: The entry to write (``None``: nothing to write), and what the caller may do.
    :raises ClaimLostError: this attempt held the claim, and another attempt has taken it over.
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
            attempts=[_new_attempt(intent, now)],
        )
        return _record_claimed(entry, intent, now)
    latest = entry.latest_attempt(intent.fingerprint)
    if _holds_claim(entry, latest, intent):
        return None, Submit(intent.attempt_id)
    if latest is None:
        return _add_attempt(entry, intent, now, message="the audio behind this source has changed")
    if is_unpaid(entry, intent.fingerprint):
        return _add_attempt(entry, intent, now)
    if latest.vendor_task_id is None or latest.submitted_at is None:
        is_other_instance = latest.asked_by.instance != intent.asked_by.instance
        return None, InDoubt(latest, in_flight=is_other_instance and now - latest.claimed_at < IN_FLIGHT)
    paid = latest.vendor_task_id, latest.submitted_at, latest.attempt_id
    landing = entry.landings.get(manifest_uri or "")
    if landing is not None and landing.vendor_task_id == latest.vendor_task_id:
        return None, Landed(*paid)
    append_event(entry, "attached", now, by=intent.asked_by, vendor_task_id=latest.vendor_task_id)
    return entry, Attach(*paid, reports_to=latest.asked_by if latest.calls_back else None)


def is_unpaid(entry: LedgerEntry | None, fingerprint: str) -> bool:
    """
    Return whether a claim would be a new purchase.

    :param entry: The entry in the ledger; ``None`` when there is none.
    :param fingerprint: Version of the audio. A version that was paid for stays paid for when a later one
        follows: a process may have read the file before someone replaced it.
    """
    latest = entry.latest_attempt(fingerprint) if entry else None
    if entry is None or latest is None:
        return True
    return entry.state in _CLAIMABLE if latest is entry.current else latest.outcome is not None


def take_over(
    entry: LedgerEntry, lost: Attempt, intent: Intent, now: datetime
) -> tuple[LedgerEntry | None, Decision]:
    """
    Give the claim of an attempt whose answer was lost to a new attempt. Its submit may be a second charge.

    :raises ClaimLostError: the lost attempt has been answered or taken over meanwhile, or this one was.
    """
    latest = entry.latest_attempt(lost.fingerprint)
    if _holds_claim(entry, latest, intent):
        return None, Submit(intent.attempt_id)
    if latest is None or latest.attempt_id != lost.attempt_id or latest.vendor_task_id is not None:
        raise ClaimLostError(f"attempt {lost.attempt_id} is no longer in doubt")
    append_event(entry, "submit_given_up", now, by=intent.asked_by, attempt_id=lost.attempt_id)
    return _add_attempt(entry, intent, now, message="the answer to the submit before was lost")


def renew(entry: LedgerEntry, attempt_id: str, now: datetime) -> None:
    """
    Claim again for an attempt that was refused, right before its submit is sent again.

    :raises ClaimLostError: another attempt has claimed meanwhile.
    """
    attempt = get_attempt(entry, attempt_id)
    latest = entry.latest_attempt(attempt.fingerprint)
    if latest is not None and latest is not attempt:
        raise ClaimLostError(f"attempt {latest.attempt_id} of {latest.asked_by} holds the claim")
    if attempt.outcome is None and attempt.claimed_at == now:
        return  # by its own write whose answer the store lost
    attempt.claimed_at, attempt.outcome = now, None
    if entry.current is attempt:
        entry.state = EntryState.CLAIMED
    append_event(entry, "sent_again", now, by=attempt.asked_by, attempt_id=attempt_id)


def _holds_claim(entry: LedgerEntry, latest: Attempt | None, intent: Intent) -> bool:
    """
    Return whether the attempt already holds the claim, by its own write whose answer the store lost.

    :raises ClaimLostError: it held the claim, and another attempt has taken it over.
    """
    if latest is not None and latest.attempt_id == intent.attempt_id:
        return True
    if entry.attempt(intent.attempt_id) is not None:
        raise ClaimLostError(f"attempt {intent.attempt_id} was given up before it knew that it had the claim")
    return False


def _add_attempt(
    entry: LedgerEntry, intent: Intent, now: datetime, *, message: str | None = None
) -> tuple[LedgerEntry, Submit]:
    entry.attempts.append(_new_attempt(intent, now))
    return _record_claimed(entry, intent, now, message=message)


def _new_attempt(intent: Intent, now: datetime) -> Attempt:
    return Attempt(
        attempt_id=intent.attempt_id,
        asked_by=intent.asked_by,
        fingerprint=intent.fingerprint,
        claimed_at=now,
        calls_back=intent.calls_back,
    )


def _record_claimed(
    entry: LedgerEntry, intent: Intent, now: datetime, *, message: str | None = None
) -> tuple[LedgerEntry, Submit]:
    entry.state = EntryState.CLAIMED
    append_event(entry, "claimed", now, by=intent.asked_by, attempt_id=intent.attempt_id, message=message)
    return entry, Submit(intent.attempt_id)
