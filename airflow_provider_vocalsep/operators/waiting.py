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


def deadline_of(submitted_at: float, timeout: float) -> float:
    """
    Return when to give up a wait. A retry keeps the deadline; after it, a retry waits the full time again.

    :param submitted_at: Time of the submit, in epoch seconds, as is the result.
    :param timeout: Seconds from the submit.
    """
    now = time.time()
    return submitted_at + timeout if submitted_at + timeout > now else now + timeout


def airflow_timeout(deadline: float, poll_interval: float) -> timedelta:
    """Return Airflow's timeout of a deferral, later than the trigger's deadline: the trigger's event wins."""
    return timedelta(seconds=deadline - time.time() + poll_interval + 60)


def utc_text(seconds: float) -> str:
    """Return a time in epoch seconds as ISO 8601 in UTC, for messages."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="seconds")


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

        :param timeout: See :func:`deadline_of`.
        :param poll_interval: See :func:`poll_interval_of`.
        :param deferrable: Whether the triggerer waits. A callback does not reach a worker that waits itself.
        """
        submitted_at = submission.submitted_at.timestamp()
        calls_back = submission.calls_back and deferrable
        return cls(
            submission.vendor_task_id,
            deadline=deadline_of(submitted_at, timeout),
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

    def __str__(self) -> str:
        how = (
            f"The vendor calls back; its record is read every {self.poll_interval:g} s in case it does not."
            if self.calls_back
            else f"Its record is read every {self.poll_interval:g} s."
        )
        until = utc_text(self.deadline)
        return f"Waiting for vendor task {self.vendor_task_id} until {until}; no worker is held. {how}"
