"""The trigger that waits for a vendor task."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

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
from airflow_provider_vocalsep.triggers.resume_delay import wait_for_resume_delay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class VocalSeparationTrigger(BaseTrigger):
    """
    Wait until a vendor task ends. It only reads states; stems are landed by a worker.

    The first read comes before any sleep, unless the vendor calls back and was only just asked. Passing trouble (no answer, HTML, "too fast", maintenance) never ends
    the wait, it only spaces the reads out. Killing the waiting Airflow task does not cancel the vendor's: there
    is no such call, and the ledger keeps the task for the next try.

    The event is a flat dictionary: ``status`` (a :class:`~airflow_provider_vocalsep.separation.polling.WaitOutcome`
    value), ``vendor_task_id``, ``message``, ``reads`` (status reads made).

    :param vendor_task_id: The id that the submit returned.
    :param deadline: When to give up, in epoch seconds. Wall-clock: it means the same on whichever host the
        wait goes on.
    :param poll_interval: Seconds between status reads.
    :param visible_by: Until when an id that the vendor does not know counts as not visible yet, in epoch
        seconds; two minutes from the trigger's creation by default.
    :param vocalsep_conn_id: Id of the connection.
    :param read_at_once: Whether the first read comes before any sleep.
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the state until the wait is over, and yield one event."""
        began = time.monotonic()
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
        while True:
            try:
                task = await hook.aread_task(self.vendor_task_id)
            except Exception as e:
                step = poller.on_error(e, now())
            else:
                step = poller.on_record(task, now())
            if isinstance(step, Ended):
                break
            if step.trouble:
                self.log.warning(
                    "Vendor task %s: %s; reading again in %.0f s.",
                    self.vendor_task_id,
                    step.trouble,
                    step.seconds,
                )
            else:
                self.log.info(
                    "Vendor task %s is under way; reading again in %.0f s.", self.vendor_task_id, step.seconds
                )
            await asyncio.sleep(step.seconds)
        await wait_for_resume_delay(began)
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "status": step.outcome.value,
                "vendor_task_id": self.vendor_task_id,
                "message": step.message,
                "reads": poller.reads,
            }
        )
