"""
How long an Airflow task is left alone after it was parked.

Its worker may report the end of its process that much later. If it is resumed and queued by then, Airflow's scheduler takes the
late report for the end of the new process, and fails a task that has only just been queued.
"""

from __future__ import annotations

import asyncio
import time

from airflow.providers.common.compat.sdk import conf


def resume_delay() -> float:
    """
    Return the seconds until a parked task may be resumed.

    The supervisor of a task looks for its end this often (Airflow 3.3, sdk/execution_time/supervisor.py,
    MIN_HEARTBEAT_INTERVAL); the scheduler needs a moment more.
    """
    return float(conf.getint("workers", "min_heartbeat_interval", fallback=5) + 1)


async def wait_for_resume_delay(began: float) -> None:
    """
    Sleep through what is left of the rest.

    :param began: When the trigger began, which is after the task was parked, by :func:`time.monotonic`.
    """
    await asyncio.sleep(max(0.0, began + resume_delay() - time.monotonic()))
