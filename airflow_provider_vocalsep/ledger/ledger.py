"""The ledger: transitions applied to a store by compare-and-swap."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_vocalsep.ledger import transitions
from airflow_provider_vocalsep.ledger.errors import LedgerConflictError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_vocalsep.ledger.entry import (
        Asker,
        Attempt,
        Event,
        Identity,
        Landing,
        LedgerEntry,
        Outcome,
    )
    from airflow_provider_vocalsep.ledger.store import LedgerStore
    from airflow_provider_vocalsep.ledger.transitions import Decision, Intent

T = TypeVar("T")

#: A swap is lost only when another writer's succeeded, so this many in a row means a store gone wrong.
_SWAPS = 30


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(tz=timezone.utc)


class Ledger:
    """
    Durable state of paid separations.

    Every method reads the entry, applies one transition and writes it back under the condition that nobody
    wrote in between; a lost swap reads and decides again.

    :param store: Where the entries are.
    :param now: The clock.
    """

    def __init__(self, store: LedgerStore, *, now: Callable[[], datetime] = utc_now) -> None:
        self.store = store
        self.now = now
        self._written: dict[str, tuple[LedgerEntry | None, str | None]] = {}

    def read(self, identity: Identity) -> LedgerEntry | None:
        """Return the entry, ``None`` when there is none."""
        return self.store.read(identity)[0]

    def where(self, identity: Identity) -> str:
        """Say where the entry is, for messages."""
        return self.store.where(identity)

    def claim(self, identity: Identity, intent: Intent, *, manifest_uri: str | None = None) -> Decision:
        """Ask for the right to submit, see :func:`~airflow_provider_vocalsep.ledger.transitions.claim`."""
        return self._swap(
            identity, lambda e: transitions.claim(e, identity, intent, self.now(), manifest_uri=manifest_uri)
        )

    def take_over(self, identity: Identity, lost: Attempt, intent: Intent) -> Decision:
        """Submit anew in place of a lost attempt."""
        return self._swap(identity, lambda e: transitions.take_over(_existing(e), lost, intent, self.now()))

    def renew(self, identity: Identity, attempt_id: str) -> None:
        """Write the intent afresh before the submit is sent once more."""
        self._change(identity, lambda e: transitions.renew(e, attempt_id, self.now()))

    def submitted(
        self, identity: Identity, attempt_id: str, vendor_task_id: str, *, event: str = "submitted"
    ) -> None:
        """Keep the vendor's answer to a submit, or with ``event="adopted"`` what a callback said in its place."""
        self._change(
            identity,
            lambda e: transitions.record_submitted(e, attempt_id, vendor_task_id, self.now(), event=event),
        )

    def called_back(self, identity: Identity, attempt_id: str, heard: Event) -> None:
        """Keep a callback."""
        self._change(identity, lambda e: transitions.record_callback(e, attempt_id, heard))

    def doubtful(self, identity: Identity, attempt_id: str, message: str) -> None:
        """Keep that the answer to a submit was lost."""
        self._change(identity, lambda e: transitions.record_doubt(e, attempt_id, message, self.now()))

    def failed(self, identity: Identity, attempt_id: str, outcome: Outcome, *, event: str = "failed") -> None:
        """Keep that an attempt came to nothing."""
        self._change(identity, lambda e: transitions.record_failed(e, attempt_id, outcome, event=event))

    def task_failed(self, identity: Identity, vendor_task_id: str, outcome: Outcome) -> None:
        """Keep that the vendor gave a task up."""

        def fail(entry: LedgerEntry) -> None:
            for attempt in entry.attempts:
                if attempt.vendor_task_id == vendor_task_id:
                    transitions.record_failed(entry, attempt.attempt_id, outcome)

        self._change(identity, fail)

    def failed_submissions(self, identity: Identity, asker: Asker, vendor_task_id: str) -> int:
        """Count the failed tasks in a row that this instance paid for, ``vendor_task_id`` included."""
        entry = _existing(self.read(identity))
        return transitions.failed_submissions(entry, asker, vendor_task_id)

    def separated(
        self, identity: Identity, vendor_task_id: str, asked_by: Asker, heard: Sequence[Event] = ()
    ) -> None:
        """Keep that the vendor is done, and with it what its callbacks said."""

        def record(entry: LedgerEntry) -> None:
            for line in heard:
                transitions.record_callback(entry, line.attempt_id or "", line)
            transitions.record_separated(entry, vendor_task_id, asked_by, self.now())

        self._change(identity, record)

    def landed(self, identity: Identity, manifest_uri: str, landing: Landing, asked_by: Asker) -> None:
        """Keep that stems and manifest are in the bucket."""
        self._change(identity, lambda e: transitions.record_landed(e, manifest_uri, landing, asked_by))

    def note(self, identity: Identity, event: str, *, by: Asker, message: str | None = None) -> None:
        """Append one line to the history."""
        self._change(identity, lambda e: transitions.note(e, event, self.now(), by=by, message=message))

    def _change(self, identity: Identity, transition: Callable[[LedgerEntry], None]) -> None:
        def apply(entry: LedgerEntry | None) -> tuple[LedgerEntry | None, None]:
            changed = _existing(entry)
            before = changed.to_json()
            transition(changed)
            return (None if changed.to_json() == before else changed), None

        self._swap(identity, apply)

    def _swap(
        self, identity: Identity, transition: Callable[[LedgerEntry | None], tuple[LedgerEntry | None, T]]
    ) -> T:
        for attempt in Retrying(
            retry=retry_if_exception_type(LedgerConflictError),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            stop=stop_after_attempt(_SWAPS),
            reraise=True,
        ):
            with attempt:
                # What was written here last need not be read again: the change is conditional on that version.
                if identity.digest in self._written:
                    entry, version = self._written.pop(identity.digest)
                else:
                    entry, version = self.store.read(identity)
                changed, result = transition(entry)
                if changed is not None:
                    written = self.store.write(identity, changed, version)
                    if written is not None:
                        self._written[identity.digest] = changed, written
        return result


def _existing(entry: LedgerEntry | None) -> LedgerEntry:
    if entry is None:
        raise LedgerError(
            "The ledger entry of this separation is gone while it is under way. Do not delete ledger entries of "
            "tracks that are being separated; put it back (S3 versioning) and clear the task."
        )
    return entry
