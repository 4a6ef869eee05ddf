"""The ledger: claims and transitions applied to a store by compare-and-swap."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_vocalsep.ledger import claims, transitions
from airflow_provider_vocalsep.ledger.errors import LedgerConflictError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.ledger.claims import Decision, Intent
    from airflow_provider_vocalsep.ledger.entry import (
        Attempt,
        Event,
        File,
        Identity,
        Landing,
        LedgerEntry,
        Outcome,
        TaskInstanceRef,
    )
    from airflow_provider_vocalsep.ledger.store import LedgerStore
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup

T = TypeVar("T")

#: Swaps that may be lost in a row. Another writer succeeds each time, so that many mean a broken store.
_MAX_SWAPS = 30


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(tz=timezone.utc)


class Ledger:
    """
    Durable state of paid separations.

    Every method reads the entry, applies one transition, and writes the entry back on condition that no other
    writer changed it. After a lost swap it reads and decides again.

    :param now: The clock.
    :param on_event: Called with each event that is added to a history, after it is stored: never twice, and
        not at all if this process dies in between.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        now: Callable[[], datetime] = utc_now,
        on_event: Callable[[LedgerEntry, Event], None] | None = None,
    ) -> None:
        self.store = store
        self.now = now
        self.on_event = on_event
        #: The entries that this ledger wrote last, with their versions, by digest.
        self._written: dict[str, tuple[LedgerEntry | None, str | None]] = {}

    def read(self, identity: Identity) -> LedgerEntry | None:
        """Return the entry; ``None`` when there is none."""
        return self.store.read(identity)[0]

    def uri_of(self, identity: Identity) -> str:
        """Return the URI of the entry, for messages."""
        return self.store.uri_of(identity)

    def claim(self, identity: Identity, intent: Intent, *, manifest_uri: str | None = None) -> Decision:
        """Ask for the right to submit, see :func:`~airflow_provider_vocalsep.ledger.claims.claim`."""
        return self._swap(
            identity, lambda e: claims.claim(e, identity, intent, self.now(), manifest_uri=manifest_uri)
        )

    def take_over(self, identity: Identity, lost: Attempt, intent: Intent) -> Decision:
        """Give the claim of an attempt whose answer was lost to a new attempt."""
        return self._swap(identity, lambda e: claims.take_over(_require(e), lost, intent, self.now()))

    def renew(self, identity: Identity, attempt_id: str) -> None:
        """Claim again for an attempt that was refused, before its submit is sent again."""
        now = self.now()  # by its time a renewal finds its own write again
        self._change(identity, lambda e: claims.renew(e, attempt_id, now))

    def record_submitted(
        self, identity: Identity, attempt_id: str, vendor_task_id: str, *, event: str = "submitted"
    ) -> None:
        """Record the vendor's answer to a submit, or the task that a callback named (``event="adopted"``)."""
        self._change(
            identity,
            lambda e: transitions.record_submitted(e, attempt_id, vendor_task_id, self.now(), event=event),
        )

    def record_callbacks(self, identity: Identity, find_callbacks: CallbackLookup) -> None:
        """Record the callbacks that arrived for the attempts."""
        self._change(identity, lambda e: transitions.record_callbacks(e, find_callbacks))

    def record_submit_lost(self, identity: Identity, attempt_id: str, message: str) -> None:
        """Record that the answer to a submit was lost."""
        self._change(identity, lambda e: transitions.record_submit_lost(e, attempt_id, message, self.now()))

    def record_refused(self, identity: Identity, attempt_id: str, outcome: Outcome) -> None:
        """Record that the vendor refused a submit, so that nothing is paid."""
        self._change(identity, lambda e: transitions.record_refused(e, attempt_id, outcome, self.now()))

    def record_task_failed(
        self, identity: Identity, vendor_task_id: str, outcome: Outcome, *, status: str | None = None
    ) -> None:
        """Record that the vendor failed a task, with the vendor's ``status``."""
        self._change(
            identity,
            lambda e: transitions.record_task_failed(e, vendor_task_id, outcome, self.now(), status=status),
        )

    def count_failed_submissions(
        self, identity: Identity, asked_by: TaskInstanceRef, vendor_task_id: str
    ) -> int:
        """Count the paid tasks in a row that the vendor failed, ``vendor_task_id`` included."""
        entry = _require(self.read(identity))
        return transitions.count_failed_submissions(entry, asked_by, vendor_task_id)

    def paid_by(self, identity: Identity, asked_by: TaskInstanceRef) -> tuple[int, float]:
        """
        Count what a task instance has paid for, in all its tries. Right after a change this sends no request.

        :return: Submissions that the vendor accepted, and their credits without refunds.
        """
        written = self._written.get(identity.digest)
        entry = written[0] if written else self.read(identity)
        return transitions.paid_by(entry, asked_by) if entry else (0, 0.0)

    def record_separated(
        self,
        identity: Identity,
        vendor_task_id: str,
        asked_by: TaskInstanceRef,
        find_callbacks: CallbackLookup = lambda _: (),
        *,
        status: str | None = None,
    ) -> None:
        """Record that the vendor has finished a task, with the vendor's ``status``, and its callbacks."""

        def record(entry: LedgerEntry) -> None:
            transitions.record_callbacks(entry, find_callbacks)
            transitions.record_separated(entry, vendor_task_id, asked_by, self.now(), status=status)

        self._change(identity, record)

    def record_landed(
        self,
        identity: Identity,
        manifest_uri: str,
        landing: Landing,
        asked_by: TaskInstanceRef,
        files: tuple[File, ...] | None = None,
    ) -> None:
        """Record that the stems and their manifest have landed, and the digests of the stems (``files``)."""
        self._change(
            identity,
            lambda e: transitions.record_landed(e, manifest_uri, landing, asked_by, self.now(), files),
        )

    def append_event(
        self, identity: Identity, event: str, *, by: TaskInstanceRef, message: str | None = None
    ) -> None:
        """Append an event to the history."""
        self._change(
            identity, lambda e: transitions.append_event(e, event, self.now(), by=by, message=message)
        )

    def _change(self, identity: Identity, transition: Callable[[LedgerEntry], None]) -> None:
        def apply(entry: LedgerEntry | None) -> tuple[LedgerEntry | None, None]:
            changed = _require(entry)
            before = changed.to_json()
            transition(changed)
            return (None if changed.to_json() == before else changed), None

        self._swap(identity, apply)

    def _swap(
        self, identity: Identity, transition: Callable[[LedgerEntry | None], tuple[LedgerEntry | None, T]]
    ) -> T:
        new_events: list[Event] = []
        for attempt in Retrying(
            retry=retry_if_exception_type(LedgerConflictError),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            stop=stop_after_attempt(_MAX_SWAPS),
            reraise=True,
        ):
            with attempt:
                # An entry that this ledger wrote last need not be read again: the write requires that
                # version.
                if identity.digest in self._written:
                    entry, version = self._written.pop(identity.digest)
                else:
                    entry, version = self.store.read(identity)
                counts = [event.count for event in entry.history] if entry else []
                changed, result = transition(entry)
                if changed is not None:
                    new_events += _find_new_events(changed, counts)
                    written = self.store.write(identity, changed, version)
                    if written is not None:
                        self._written[identity.digest] = changed, written
        self._notify(changed or entry, new_events)
        return result

    def _notify(self, entry: LedgerEntry | None, new_events: list[Event]) -> None:
        """Call ``on_event`` with each new event that is stored, also by a write whose answer was lost."""
        if entry is None or self.on_event is None:
            return
        for index, event in enumerate(new_events):
            if event in entry.history and event not in new_events[:index]:
                self.on_event(entry, event)


def _find_new_events(entry: LedgerEntry, counts: list[int]) -> list[Event]:
    """Return the events that were added to a history, or counted up in it, by its counts before."""
    return [
        event
        for number, event in enumerate(entry.history)
        if number >= len(counts) or event.count > counts[number]
    ]


def _require(entry: LedgerEntry | None) -> LedgerEntry:
    if entry is None:
        raise LedgerError(
            "The ledger entry of this separation was deleted while the separation is under way. "
            "Do not delete ledger entries of tracks that are being separated: restore it (S3 versioning) "
            "and clear the task."
        )
    return entry
