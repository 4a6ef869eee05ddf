"""The trigger that waits for the vendor tasks of a batch."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.separation.batch_polling import LINGER, BatchPoller
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.polling import DEFAULT_POLL_INTERVAL
from airflow_provider_vocalsep.triggers import BATCH_TRIGGER
from airflow_provider_vocalsep.triggers.resume_delay import wait_for_resume_delay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


class BatchTrigger(BaseTrigger):
    """
    Wait for many vendor tasks at once; stems are landed by a worker.

    It fires when all have ended, or when some have and enough time has passed, so that a batch of hundreds of tracks is
    resumed a handful of times. The event: ``ended``, by vendor task id the pair of a
    :class:`~airflow_provider_vocalsep.separation.polling.WaitOutcome` value and a message, and ``reads`` (status reads made).

    :param waiting: When each vendor task was submitted, in epoch seconds, by its id.
    :param deadline: When to give up, in epoch seconds.
    :param poll_interval: Seconds between two status reads of the same vendor task.
    :param vocalsep_conn_id: Id of the connection.
    :param linger: Seconds from the first ended task until it fires for what has ended by then.
    :param in_doubt: Attempts whose answer was lost and whose callback is awaited; the receiver finds them here.
    :param until: When it fires whatever has ended, in epoch seconds, for what is in doubt.
    :param read_at_once: Whether the first reads come before any sleep.
    """

    def __init__(
        self,
        waiting: dict[str, float],
        deadline: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        linger: float = LINGER,
        in_doubt: Sequence[str] = (),
        until: float | None = None,
        read_at_once: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waiting = waiting
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.vocalsep_conn_id = vocalsep_conn_id
        self.linger = linger
        self.in_doubt = list(in_doubt)
        self.until = until
        self.read_at_once = read_at_once

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Serialize the arguments and the class path."""
        return (
            BATCH_TRIGGER,
            {
                "waiting": self.waiting,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "vocalsep_conn_id": self.vocalsep_conn_id,
                "linger": self.linger,
                "in_doubt": self.in_doubt,
                "until": self.until,
                "read_at_once": self.read_at_once,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read states until the batch is to be resumed, and yield one event."""
        began = time.monotonic()
        hook, now = VocalSeparationHook(self.vocalsep_conn_id), SteadyClock()
        sweep = BatchPoller(
            self.waiting,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            now=now(),
            linger=self.linger,
            until=self.until,
            read_at_once=self.read_at_once,
        )
        while not sweep.is_over(now()):
            due = sweep.due(now())
            # The client lets so many through at a time.
            await asyncio.gather(*(self._read(hook, sweep, task_id, now) for task_id in due))
            pause = sweep.sleep(now())
            if due:
                then = f"next look in {pause:.0f} s" if pause else "resuming the batch"
                self.log.info(
                    "%d of %d vendor tasks have ended; %s.", len(sweep.ended), len(self.waiting), then
                )
            await asyncio.sleep(pause)
        await wait_for_resume_delay(began)
        ended = {task_id: [outcome.value, words] for task_id, (outcome, words) in sweep.outcomes().items()}
        yield TriggerEvent({"ended": ended, "reads": sweep.reads})  # type: ignore[no-untyped-call]

    @staticmethod
    async def _read(
        hook: VocalSeparationHook, sweep: BatchPoller, task_id: str, now: Callable[[], float]
    ) -> None:
        try:
            task = await hook.aread_task(task_id)
        except Exception as e:
            sweep.on_error(task_id, e, now())
        else:
            sweep.on_record(task_id, task, now())
