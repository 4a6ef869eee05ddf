"""The plan of a wait for a vendor task: deadline, poll interval, first read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.separation.polling import (
    DEFAULT_POLL_INTERVAL,
    SAFETY_POLL_INTERVAL,
    VISIBILITY_GRACE,
    Poller,
)
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger

if TYPE_CHECKING:
    from airflow_provider_vocalsep.separation.submitting import Submission


def number_or_none(value: float | str | None) -> float | None:
    """Parse an optional number, also as a template renders it."""
    return None if value in (None, "", "None") else float(value)


def poll_interval_of(poll_interval: float | str | None, *, calls_back: bool) -> float:
    """
    Return the seconds between status reads of a track.

    :param poll_interval: The operator's argument; ``None`` or empty for the default.
    :param calls_back: Whether the vendor calls back, so that reads are a safety net.
    """
    given = number_or_none(poll_interval)
    default = SAFETY_POLL_INTERVAL if calls_back else DEFAULT_POLL_INTERVAL
    return default if given is None else given


@dataclass(frozen=True)
class Wait:
    """
    A wait for a vendor task, in the triggerer or in the worker.

    :param deadline: When to give up, in epoch seconds.
    :param poll_interval: Seconds between status reads.
    :param visible_by: Until when an unknown id counts as not visible yet, in epoch seconds.
    :param calls_back: Whether the vendor calls the waiting task instance back.
    :param read_at_once: Whether the first read comes before any sleep.
    """

    vendor_task_id: str
    deadline: float
    poll_interval: float
    visible_by: float
    calls_back: bool = False
    read_at_once: bool = True

    @classmethod
    def plan(
        cls, submission: Submission, *, timeout: float, poll_interval: float | str | None, deferrable: bool
    ) -> Wait:
        """
        Plan the wait for a vendor task.

        :param timeout: Seconds from the submit. A retry keeps the deadline; after it, a retry waits the full
            time again.
        :param poll_interval: See :func:`poll_interval_of`.
        :param deferrable: Whether the triggerer waits. A callback does not reach a worker that waits itself.
        """
        now, submitted_at = time.time(), submission.submitted_at.timestamp()
        calls_back = submission.calls_back and deferrable
        return cls(
            submission.vendor_task_id,
            deadline=submitted_at + timeout if submitted_at + timeout > now else now + timeout,
            poll_interval=poll_interval_of(poll_interval, calls_back=calls_back),
            visible_by=submitted_at + VISIBILITY_GRACE,
            calls_back=calls_back,
            # A task that was submitted just now has not ended, or has already called back.
            read_at_once=not (calls_back and submission.submitted_now),
        )

    def trigger(self, vocalsep_conn_id: str) -> VocalSeparationTrigger:
        """Return the trigger for this wait."""
        return VocalSeparationTrigger(
            vendor_task_id=self.vendor_task_id,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            visible_by=self.visible_by,
            vocalsep_conn_id=vocalsep_conn_id,
            read_at_once=self.read_at_once,
        )

    def poller(self) -> Poller:
        """Return the poller for this wait in the worker."""
        return Poller(
            self.vendor_task_id,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            visible_by=self.visible_by,
        )

    @property
    def airflow_timeout(self) -> timedelta:
        """Airflow's timeout of the deferral, later than the trigger's deadline: the trigger's event wins."""
        return timedelta(seconds=self.deadline - time.time() + self.poll_interval + 60)

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.deadline, tz=timezone.utc).isoformat(timespec="seconds")
        how = (
            f"The vendor calls back; its record is read every {self.poll_interval:g} s in case it does not."
            if self.calls_back
            else f"Its record is read every {self.poll_interval:g} s."
        )
        return f"Waiting for vendor task {self.vendor_task_id} until {until}; no worker is held. {how}"
