"""The ledger: transitions applied to a store by compare-and-swap."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_vocalsep.ledger import transitions
from airflow_provider_vocalsep.ledger.errors import LedgerConflictError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

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
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup, Decision, Intent

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
    :param on_event: Told of each line that was added to a history, once it is in the store: never twice, and not at all
        if this process dies in between.
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
        self._written: dict[str, tuple[LedgerEntry | None, str | None]] = {}

    def read(self, identity: Identity) -> LedgerEntry | None:
        """Return the entry, ``None`` when there is none."""
        return self.store.read(identity)[0]

    def uri_of(self, identity: Identity) -> str:
        """Say where the entry is, for messages."""
        return self.store.uri_of(identity)

    def claim(self, identity: Identity, intent: Intent, *, manifest_uri: str | None = None) -> Decision:
        """Ask for the right to submit, see :func:`~airflow_provider_vocalsep.ledger.transitions.claim`."""
        return self._swap(
            identity, lambda e: transitions.claim(e, identity, intent, self.now(), manifest_uri=manifest_uri)
        )

    def take_over(self, identity: Identity, lost: Attempt, intent: Intent) -> Decision:
        """Submit anew in place of a lost attempt."""
        return self._swap(identity, lambda e: transitions.take_over(_existing(e), lost, intent, self.now()))

    def renew(
        self, identity: Identity, attempt_id: str, *, code: int | None = None, message: str | None = None
    ) -> None:
        """Write the intent afresh before the submit is sent once more; ``code`` and ``message`` say why."""
        self._change(
            identity, lambda e: transitions.renew(e, attempt_id, self.now(), code=code, message=message)
        )

    def record_submitted(
        self, identity: Identity, attempt_id: str, vendor_task_id: str, *, event: str = "submitted"
    ) -> None:
        """Keep the vendor's answer to a submit, or with ``event="adopted"`` what a callback said in its place."""
        self._change(
            identity,
            lambda e: transitions.record_submitted(e, attempt_id, vendor_task_id, self.now(), event=event),
        )

    def record_callbacks(self, identity: Identity, heard: CallbackLookup) -> None:
        """Keep the callbacks that came for its attempts."""
        self._change(identity, lambda e: transitions.record_callbacks(e, heard))

    def record_submit_lost(self, identity: Identity, attempt_id: str, message: str) -> None:
        """Keep that the answer to a submit was lost."""
        self._change(identity, lambda e: transitions.record_submit_lost(e, attempt_id, message, self.now()))

    def record_failed(
        self, identity: Identity, attempt_id: str, outcome: Outcome, *, event: str = "failed"
    ) -> None:
        """Keep that an attempt came to nothing."""
        self._change(
            identity, lambda e: transitions.record_failed(e, attempt_id, outcome, self.now(), event=event)
        )

    def record_task_failed(
        self, identity: Identity, vendor_task_id: str, outcome: Outcome, *, status: str | None = None
    ) -> None:
        """Keep that the vendor gave a task up, in its own word ``status``."""

        def fail(entry: LedgerEntry) -> None:
            for attempt in entry.attempts:
                if attempt.vendor_task_id == vendor_task_id:
                    transitions.record_failed(entry, attempt.attempt_id, outcome, self.now(), status=status)

        self._change(identity, fail)

    def count_failed_submissions(
        self, identity: Identity, asker: TaskInstanceRef, vendor_task_id: str
    ) -> int:
        """Count the failed tasks in a row that this instance paid for, ``vendor_task_id`` included."""
        entry = _existing(self.read(identity))
        return transitions.count_failed_submissions(entry, asker, vendor_task_id)

    def paid_by(self, identity: Identity, asker: TaskInstanceRef) -> tuple[int, float]:
        """
        Count what a task instance has paid for, see :func:`~airflow_provider_vocalsep.ledger.transitions.paid_by`.

        Right after a change it costs no request.
        """
        written = self._written.get(identity.digest)
        entry = written[0] if written else self.read(identity)
        return transitions.paid_by(entry, asker) if entry else (0, 0.0)

    def record_separated(
        self,
        identity: Identity,
        vendor_task_id: str,
        asked_by: TaskInstanceRef,
        heard: CallbackLookup = lambda _: (),
        *,
        status: str | None = None,
    ) -> None:
        """Keep that the vendor is done, in its own word ``status``, and with it what its callbacks said."""

        def record(entry: LedgerEntry) -> None:
            transitions.record_callbacks(entry, heard)
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
        """Keep that stems and manifest are in the bucket, and which bytes they were."""
        self._change(
            identity,
            lambda e: transitions.record_landed(e, manifest_uri, landing, asked_by, self.now(), files),
        )

    def append_event(
        self, identity: Identity, event: str, *, by: TaskInstanceRef, message: str | None = None
    ) -> None:
        """Append one line to the history."""
        self._change(
            identity, lambda e: transitions.append_event(e, event, self.now(), by=by, message=message)
        )

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
        said: list[Event] = []
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
                before = _end_of_history(entry)
                changed, result = transition(entry)
                if changed is not None:
                    said += _added(changed, before)
                    written = self.store.write(identity, changed, version)
                    if written is not None:
                        self._written[identity.digest] = changed, written
        self._tell(changed or entry, said)
        return result

    def _tell(self, entry: LedgerEntry | None, said: list[Event]) -> None:
        """Tell what of it is in the store: also what a write said whose answer was lost, and not what lost its swap."""
        if entry is None or self.on_event is None:
            return
        for place, event in enumerate(said):
            if event in entry.history and event not in said[:place]:
                self.on_event(entry, event)


def _end_of_history(entry: LedgerEntry | None) -> tuple[int, int]:
    """Return how many lines there are, and how often the last of them happened."""
    return (len(entry.history), entry.history[-1].count) if entry and entry.history else (0, 0)


def _added(entry: LedgerEntry, before: tuple[int, int]) -> list[Event]:
    lines, count = before
    again = lines > 0 and entry.history[lines - 1].count > count
    return entry.history[lines - again :]


def _existing(entry: LedgerEntry | None) -> LedgerEntry:
    if entry is None:
        raise LedgerError(
            "The ledger entry of this separation is gone while it is under way. Do not delete ledger entries of "
            "tracks that are being separated; put it back (S3 versioning) and clear the task."
        )
    return entry
