"""
The delay between deferring an Airflow task and resuming it.

A worker may report the end of the deferring process that late. If the task is resumed and queued by then,
Airflow's scheduler takes the late report for the end of the new process, and fails a task that it has just
queued.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def resume_delay() -> float:
    """
    Return the seconds after which a deferred task may be resumed.

    A task's supervisor checks this often whether the process has ended (Airflow 3.3,
    sdk/execution_time/supervisor.py, MIN_HEARTBEAT_INTERVAL); the scheduler needs a moment more.
    """
    return float(conf.getint("workers", "min_heartbeat_interval", fallback=5) + 1)


async def wait_for_resume_delay(started: float) -> None:
    """
    Sleep until the delay is over.

    :param started: When the trigger started, which is after the task was deferred, by :func:`time.monotonic`.
    """
    await asyncio.sleep(max(0.0, started + resume_delay() - time.monotonic()))


class DelayedTrigger(BaseTrigger):
    """A trigger that waits for one event, and yields it after the resume delay at the earliest."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        started = time.monotonic()
        payload = await self.wait()
        await wait_for_resume_delay(started)
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    @abstractmethod
    async def wait(self) -> dict[str, Any]:
        """Wait, and return the payload of the event."""
