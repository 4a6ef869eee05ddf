"""How long, how often and where an operator waits for a vendor task."""

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


#: ``None``, also as a template renders it.
_NOT_GIVEN = (None, "", "None")


def number_or_none(value: float | str | None) -> float | None:
    """Read a number that may be left out, also as a template renders it."""
    return None if value in _NOT_GIVEN else float(value)


def poll_interval_of(poll_interval: float | str | None, *, calls_back: bool) -> float:
    """
    Return the seconds between status reads of a track.

    :param poll_interval: As the user gave it; ``None`` or nothing for the default.
    :param calls_back: The vendor calls back; reads are a safety net.
    """
    given = number_or_none(poll_interval)
    default = SAFETY_POLL_INTERVAL if calls_back else DEFAULT_POLL_INTERVAL
    return default if given is None else given


@dataclass(frozen=True)
class Wait:
    """
    One wait, whoever does it.

    :param vendor_task_id: The vendor task.
    :param deadline: When to give up, in epoch seconds.
    :param poll_interval: Seconds between status reads.
    :param visible_by: Until when an unknown id counts as not visible yet, in epoch seconds.
    :param calls_back: The vendor calls the waiting task instance back; reads are a safety net.
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
        cls, secured: Submission, *, timeout: float, poll_interval: float | str | None, deferrable: bool
    ) -> Wait:
        """
        Plan the wait for a task that is paid for.

        :param secured: The task.
        :param timeout: Seconds from the submit. A retry keeps the deadline; past it, it waits its full time
            again.
        :param poll_interval: Seconds between status reads; ``None`` or nothing for the default.
        :param deferrable: Whether it is parked; a worker that waits hears no callback.
        """
        now, submitted_at = time.time(), secured.submitted_at.timestamp()
        calls_back = secured.calls_back and deferrable
        return cls(
            secured.vendor_task_id,
            deadline=submitted_at + timeout if submitted_at + timeout > now else now + timeout,
            poll_interval=poll_interval_of(poll_interval, calls_back=calls_back),
            visible_by=submitted_at + VISIBILITY_GRACE,
            calls_back=calls_back,
            # What was submitted just now is not done yet; if it is, the receiver of callbacks knows.
            read_at_once=not (calls_back and secured.submitted_now),
        )

    def trigger(self, vocalsep_conn_id: str) -> VocalSeparationTrigger:
        """Return the trigger that does it."""
        return VocalSeparationTrigger(
            vendor_task_id=self.vendor_task_id,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            visible_by=self.visible_by,
            vocalsep_conn_id=vocalsep_conn_id,
            read_at_once=self.read_at_once,
        )

    def poller(self) -> Poller:
        """Return what decides, for a wait in this process."""
        return Poller(
            self.vendor_task_id,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            visible_by=self.visible_by,
        )

    @property
    def airflow_timeout(self) -> timedelta:
        """Airflow's own limit: later than the trigger's deadline, whose event says what is next."""
        return timedelta(seconds=self.deadline - time.time() + self.poll_interval + 60)

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.deadline, tz=timezone.utc).isoformat(timespec="seconds")
        how = (
            f"The vendor calls back; its record is read every {self.poll_interval:g} s in case it does not."
            if self.calls_back
            else f"Its record is read every {self.poll_interval:g} s."
        )
        return f"Waiting for vendor task {self.vendor_task_id} until {until}; no worker is held. {how}"
