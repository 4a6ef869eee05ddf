"""
The decision what to do after each status read, without I/O and without a clock.

The trigger, the sensor and ``deferrable=False`` differ in how they read and how they sleep; what an answer
or an error means is decided here, once. Feed it what a read brought; it says sleep or ended.
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

#: Seconds between status reads. Both vendors' callback pages advise 30.
DEFAULT_POLL_INTERVAL = 30.0

#: Seconds between status reads while the vendor is to call back: a safety net, past the 1 to 3 minutes that a
#: separation takes.
SAFETY_POLL_INTERVAL = 300.0

#: Seconds for which an id that the vendor does not know counts as "not visible yet". The vendor answers
#: ``data: null`` for an unknown id, and may do so right after a submit.
VISIBILITY_GRACE = 120.0

#: The longest pause that passing trouble can stretch the poll interval to, in seconds.
MAX_PAUSE = 300.0


class WaitOutcome(str, Enum):
    """How a wait ended."""

    #: The stems are there.
    FINISHED = "finished"
    #: The vendor gave the task up.
    FAILED = "failed"
    #: The vendor does not know the id, and did not come to know it.
    UNKNOWN = "unknown"
    #: The vendor refuses to answer, and will until a person changes something.
    REFUSED = "refused"
    #: The vendor called back. Its record says what came of the task.
    CALLED_BACK = "called_back"
    #: The deadline passed. The task itself may still finish; a retry attaches to it again.
    GAVE_UP = "gave_up"


@dataclass(frozen=True)
class Sleep:
    """Read again after ``seconds``. ``trouble`` says what was wrong with the last read, if anything was."""

    seconds: float
    trouble: str | None = None


@dataclass(frozen=True)
class Ended:
    """The wait is over. ``message`` says how, and what happens next."""

    outcome: WaitOutcome
    message: str


class Poller:
    """
    Decides when to read again and when a wait is over.

    :param vendor_task_id: The vendor task waited for.
    :param poll_interval: Seconds between reads while nothing is wrong.
    :param deadline: When to give up, in epoch seconds. Wall-clock, so that it means the same in whichever
        process the wait goes on.
    :param visible_by: Until when an unknown id counts as not visible yet, in epoch seconds.
    """

    def __init__(
        self, vendor_task_id: str, *, poll_interval: float, deadline: float, visible_by: float
    ) -> None:
        self.vendor_task_id = vendor_task_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.visible_by = visible_by
        self.reads = 0
        self._troubles = 0
        self._last_trouble: str | None = None

    def begin(self, now: float) -> Sleep | Ended:
        """
        Decide what comes first where nothing has to be read at once.

        :param now: Epoch seconds.
        """
        return self._sleep(self._first_phase(), now)

    def on_record(self, task: SeparationTask | None, now: float) -> Sleep | Ended:
        """
        Decide after a read that worked.

        :param task: The record, ``None`` when the vendor did not know the id.
        :param now: Epoch seconds.
        """
        self.reads += 1
        if task is None:
            return self._on_unknown(now)
        self._troubles, self._last_trouble = 0, None
        if task.finished:
            return Ended(WaitOutcome.FINISHED, f"Vendor task {self.vendor_task_id} is finished.")
        if task.failed:
            why = task.error_message or "no reason given"
            return Ended(
                WaitOutcome.FAILED, f"The vendor gave up task {self.vendor_task_id}: {task.status}, {why}."
            )
        return self._sleep(self._first_phase() if self.reads == 1 else self.poll_interval, now)

    def on_error(self, error: Exception, now: float) -> Sleep | Ended:
        """
        Decide after a read that raised.

        :param error: What it raised. Only a refusal ends the wait before the deadline; all else is passing.
        :param now: Epoch seconds.
        """
        self.reads += 1
        asked_for = None
        if isinstance(error, VendorError):
            if error.code in (404, 422):  # documented for an id that the vendor does not know
                return self._on_unknown(now)
            if error.verdict is Verdict.FATAL:
                return self._refused(error)
            asked_for = error.retry_after
        elif isinstance(error, ConnectionSettingsError):
            return self._refused(error)
        self._troubles += 1
        self._last_trouble = str(error)
        pause = min(self.poll_interval * 2 ** min(self._troubles - 1, 10), max(MAX_PAUSE, self.poll_interval))
        return self._sleep(max(pause, asked_for or 0.0), now)

    def _on_unknown(self, now: float) -> Sleep | Ended:
        self._last_trouble = f"the vendor does not know task {self.vendor_task_id} (yet)"
        if now < self.visible_by:
            return self._sleep(min(self.poll_interval, max(self.visible_by - now, 1.0)), now)
        return Ended(
            WaitOutcome.UNKNOWN,
            f"The vendor does not know task {self.vendor_task_id}: its answer holds no data. Check that the "
            "connection's key and dialect belong to the account that submitted it.",
        )

    def _refused(self, error: Exception) -> Ended:
        return Ended(
            WaitOutcome.REFUSED,
            f"There is no way to read how vendor task {self.vendor_task_id} stands: {error} The task stays "
            "paid "
            "and in the ledger; once this is mended, clear this Airflow task and it attaches again.",
        )

    def _sleep(self, seconds: float, now: float) -> Sleep | Ended:
        left = self.deadline - now
        if left <= 0:
            trouble = f" Last trouble: {self._last_trouble}." if self._last_trouble else ""
            return Ended(
                WaitOutcome.GAVE_UP,
                f"Gave up waiting for vendor task {self.vendor_task_id} after {self.reads} status reads: its "
                f"deadline has passed.{trouble} The task stays paid and in the ledger; a retry attaches to "
                "it and "
                "pays nothing.",
            )
        # The last read is at the deadline itself, not an interval before it.
        return Sleep(min(seconds, left), self._last_trouble)

    def _first_phase(self) -> float:
        """Spread tracks that started waiting together over the interval, the same way in every process."""
        share = hashlib.sha256(self.vendor_task_id.encode()).digest()[0] / 255
        return self.poll_interval * (0.5 + 0.5 * share)
