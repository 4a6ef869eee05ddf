"""The trigger that waits for a vendor task."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.polling import (
    DEFAULT_POLL_INTERVAL,
    VISIBILITY_GRACE,
    Ended,
    Poller,
    Sleep,
)
from airflow_provider_vocalsep.triggers import VOCAL_SEPARATION_TRIGGER
from airflow_provider_vocalsep.triggers.resume_delay import DelayedTrigger

if TYPE_CHECKING:
    from collections.abc import Callable


class VocalSeparationTrigger(DelayedTrigger):
    """
    Wait until a vendor task ends. It only reads states; a worker lands the stems.

    A transient error (no answer, HTML, rate limit, maintenance) never ends the wait, it only spaces the reads
    out. Ending the deferred Airflow task does not cancel the vendor's: vendors have no such call, and the
    ledger keeps the task for the next try.

    The event is a flat dictionary: ``status`` (a
    :class:`~airflow_provider_vocalsep.separation.polling.WaitOutcome` value), ``vendor_task_id``, ``message``
    and ``reads``, the number of status reads.

    :param vendor_task_id: The id that the submit returned.
    :param deadline: When to give up, in epoch seconds. Wall-clock time, so that it means the same on each
        host that continues the wait.
    :param poll_interval: Seconds between status reads.
    :param visible_by: Until when an id that the vendor does not know counts as not visible yet, in epoch
        seconds; two minutes from the trigger's creation by default.
    :param vocalsep_conn_id: Id of the connection.
    :param read_at_once: Whether the first read comes before any sleep. Not where the vendor calls back about
        a task that was submitted just now.
    """

    def __init__(
        self,
        vendor_task_id: str,
        deadline: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        visible_by: float | None = None,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        read_at_once: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vendor_task_id = vendor_task_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.visible_by = time.time() + VISIBILITY_GRACE if visible_by is None else visible_by
        self.vocalsep_conn_id = vocalsep_conn_id
        self.read_at_once = read_at_once

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Serialize the arguments and the class path."""
        return (
            VOCAL_SEPARATION_TRIGGER,
            {
                "vendor_task_id": self.vendor_task_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "visible_by": self.visible_by,
                "vocalsep_conn_id": self.vocalsep_conn_id,
                "read_at_once": self.read_at_once,
            },
        )

    async def wait(self) -> dict[str, Any]:
        """Read the state until the wait is over."""
        hook, now = VocalSeparationHook(self.vocalsep_conn_id), SteadyClock()
        poller = Poller(
            self.vendor_task_id,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            visible_by=self.visible_by,
        )
        if not self.read_at_once:
            first = poller.begin(now())
            await asyncio.sleep(first.seconds if isinstance(first, Sleep) else 0)
        while not isinstance(step := await self._read(hook, poller, now), Ended):
            if step.problem:
                self.log.warning(
                    "Vendor task %s: %s; reading again in %.0f s.",
                    self.vendor_task_id,
                    step.problem,
                    step.seconds,
                )
            else:
                self.log.info(
                    "Vendor task %s is under way; reading again in %.0f s.", self.vendor_task_id, step.seconds
                )
            await asyncio.sleep(step.seconds)
        return {
            "status": step.outcome.value,
            "vendor_task_id": self.vendor_task_id,
            "message": step.message,
            "reads": poller.reads,
        }

    async def _read(
        self, hook: VocalSeparationHook, poller: Poller, now: Callable[[], float]
    ) -> Sleep | Ended:
        try:
            task = await hook.aread_task(self.vendor_task_id)
        except Exception as e:
            return poller.on_error(e, now())
        return poller.on_record(task, now())
