"""
The decision after each status read of a vendor task: sleep, or end the wait. Without I/O, without a clock.

Trigger, sensor and ``deferrable=False`` read and sleep in different ways, and share this decision.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VendorError, Verdict
from airflow_provider_vocalsep.client.settings import ConnectionSettingsError

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.models import SeparationTask

#: Seconds between status reads, as both vendors' callback pages advise.
DEFAULT_POLL_INTERVAL = 30.0

#: Seconds between status reads if the vendor calls back: longer than the 1 to 3 minutes of a separation.
SAFETY_POLL_INTERVAL = 300.0

#: Seconds after a submit in which an unknown id counts as not visible yet: the vendor may answer
#: ``data: null`` right after a submit.
VISIBILITY_GRACE = 120.0

#: The vendor's codes for an id that it does not know, by its documentation.
UNKNOWN_TASK_CODES = (404, 422)

#: An answer that the task is unknown, or that refuses the read, ends a wait only if this many reads in a row,
#: over this many seconds, bring nothing else: gateways, deploys and rotated keys give such answers for a
#: minute.
PERSISTENT_READS = 4
PERSISTENT_FOR = 180.0

#: Longest pause between the reads that find out whether it persists, in seconds.
_DOUBT_PAUSE = 60.0

#: Longest pause between reads after transient errors, in seconds.
MAX_PAUSE = 300.0


class WaitOutcome(str, Enum):
    """How a wait ended."""

    #: The vendor offers the stems.
    FINISHED = "finished"
    #: The vendor failed the task.
    FAILED = "failed"
    #: The vendor has never known the id, also after :data:`VISIBILITY_GRACE`.
    UNKNOWN = "unknown"
    #: The vendor refuses to answer until a person changes something.
    REFUSED = "refused"
    #: The vendor called back; its record tells how the task ended.
    CALLED_BACK = "called_back"
    #: The deadline passed. The task may still finish; a retry attaches to it.
    GAVE_UP = "gave_up"


@dataclass(frozen=True)
class Sleep:
    """Read again after ``seconds``. ``problem`` describes the last read if it brought no record."""

    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class Ended:
    """The wait has ended; ``message`` tells how, and what happens next."""

    outcome: WaitOutcome
    message: str


class Poller:
    """
    Decides when to read again and when a wait ends. All times are epoch seconds, valid in every process.

    :param poll_interval: Seconds between reads that succeed.
    :param deadline: When to give up.
    :param visible_by: Until when an unknown id counts as not visible yet.
    """

    def __init__(
        self, vendor_task_id: str, *, poll_interval: float, deadline: float, visible_by: float
    ) -> None:
        self.vendor_task_id = vendor_task_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.visible_by = visible_by
        self.reads = 0
        self._errors = 0
        self._last_problem: str | None = None
        self._seen = False
        self._doubts: list[float] = []

    def begin(self, now: float) -> Sleep | Ended:
        """Return the first step of a wait that does not start with a read."""
        return self._sleep(self._first_phase(), now)

    def on_record(self, task: SeparationTask | None, now: float) -> Sleep | Ended:
        """
        Decide after a read that succeeded.

        :param task: The record; ``None`` if the vendor does not know the id.
        """
        self.reads += 1
        if task is None:
            return self._on_unknown(now)
        self._errors, self._last_problem, self._seen = 0, None, True
        self._doubts.clear()
        if task.finished:
            return Ended(WaitOutcome.FINISHED, f"Vendor task {self.vendor_task_id} is finished.")
        if task.failed:
            why = task.error_message or "no reason given"
            return Ended(
                WaitOutcome.FAILED, f"The vendor failed task {self.vendor_task_id}: {task.status}, {why}."
            )
        return self._sleep(self._first_phase() if self.reads == 1 else self.poll_interval, now)

    def on_error(self, error: Exception, now: float) -> Sleep | Ended:
        """
        Decide after a read that raised.

        :param error: Only a refusal that persists ends the wait before the deadline.
        """
        self.reads += 1
        asked_for = None
        if isinstance(error, VendorError):
            if error.code in UNKNOWN_TASK_CODES:
                return self._on_unknown(now)
            if error.verdict is Verdict.FATAL:
                return self._refused(error, now)
            asked_for = error.retry_after
        elif isinstance(error, ConnectionSettingsError):
            return self._refused(error, now)
        self._errors += 1
        self._last_problem = str(error)
        pause = min(self.poll_interval * 2 ** min(self._errors - 1, 10), max(MAX_PAUSE, self.poll_interval))
        return self._sleep(max(pause, asked_for or 0.0), now)

    def _on_unknown(self, now: float) -> Sleep | Ended:
        self._last_problem = f"the vendor does not know task {self.vendor_task_id} (yet)"
        if now < self.visible_by:
            return self._sleep(min(self.poll_interval, max(self.visible_by - now, 1.0)), now)
        if self._seen:
            return self._sleep(self._doubt_pause, now)
        return self._doubt(
            now,
            WaitOutcome.UNKNOWN,
            f"The vendor does not know task {self.vendor_task_id}: its answer holds no data. Check that the "
            "connection's key and dialect belong to the account that submitted it. A retry attaches again.",
        )

    def _refused(self, error: Exception, now: float) -> Sleep | Ended:
        self._last_problem = str(error)
        return self._doubt(
            now,
            WaitOutcome.REFUSED,
            f"The vendor does not report on task {self.vendor_task_id}: {error} The task stays paid and in "
            "the ledger. Correct this; a retry, or a clear of this Airflow task, attaches again.",
        )

    def _doubt(self, now: float, outcome: WaitOutcome, message: str) -> Sleep | Ended:
        """End the wait if reads have brought nothing else for long enough; otherwise read again."""
        self._doubts.append(now)
        if len(self._doubts) >= PERSISTENT_READS and now - self._doubts[0] >= PERSISTENT_FOR:
            return Ended(outcome, message)
        return self._sleep(self._doubt_pause, now)

    @property
    def _doubt_pause(self) -> float:
        return min(self.poll_interval, _DOUBT_PAUSE)

    def _sleep(self, seconds: float, now: float) -> Sleep | Ended:
        left = self.deadline - now
        if left <= 0:
            problem = f" Last problem: {self._last_problem}." if self._last_problem else ""
            return Ended(
                WaitOutcome.GAVE_UP,
                f"Gave up waiting for vendor task {self.vendor_task_id} after {self.reads} status reads: its "
                f"deadline has passed.{problem} The task stays paid and in the ledger; a retry attaches to "
                "it and pays nothing.",
            )
        # The last read is at the deadline itself, not an interval before it.
        return Sleep(min(seconds, left), self._last_problem)

    def _first_phase(self) -> float:
        """Return a first pause that spreads vendor tasks over the interval, the same in every process."""
        share = hashlib.sha256(self.vendor_task_id.encode()).digest()[0] / 255
        return self.poll_interval * (0.5 + 0.5 * share)
