"""The trigger that waits for the vendor tasks of a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.separation.batch_polling import LINGER, BatchPoller
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.polling import DEFAULT_POLL_INTERVAL
from airflow_provider_vocalsep.triggers import BATCH_TRIGGER
from airflow_provider_vocalsep.triggers.resume_delay import DelayedTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class BatchTrigger(DelayedTrigger):
    """
    Wait for many vendor tasks at once. It only reads states; a worker lands the stems.

    Fires when all have ended, or some time after the first of them, so that a batch of hundreds of tracks is
    resumed a handful of times.

    The event: ``ended``, which maps the id of each ended vendor task to the pair of a
    :class:`~airflow_provider_vocalsep.separation.polling.WaitOutcome` value and a message; and ``reads``, the
    number of status reads.

    :param waiting: Submit time of each vendor task by its id, in epoch seconds.
    :param deadline: When to give up, in epoch seconds.
    :param poll_interval: Seconds between two status reads of the same vendor task.
    :param vocalsep_conn_id: Id of the connection.
    :param linger: Seconds from the first ended task until it fires for those that have ended by then.
    :param in_doubt: Attempts whose answer was lost and whose callback is awaited; the receiver reads them
        here.
    :param until: When it fires in any case, in epoch seconds: the end of the wait for those callbacks.
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

    async def wait(self) -> dict[str, Any]:
        """Read states until the batch has something to do."""
        hook, now = VocalSeparationHook(self.vocalsep_conn_id), SteadyClock()
        poller = BatchPoller(
            self.waiting,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            now=now(),
            linger=self.linger,
            until=self.until,
            read_at_once=self.read_at_once,
        )
        while not poller.is_over(now()):
            due = poller.due(now())
            # The client limits how many run at the same time.
            await asyncio.gather(*(self._read(hook, poller, task_id, now) for task_id in due))
            pause = poller.sleep(now())
            if due:
                then = f"reading again in {pause:.0f} s" if pause else "resuming the batch"
                self.log.info(
                    "%d of %d vendor tasks have ended; %s.", len(poller.ended), len(self.waiting), then
                )
            await asyncio.sleep(pause)
        ended = {
            task_id: [outcome.value, message] for task_id, (outcome, message) in poller.outcomes().items()
        }
        return {"ended": ended, "reads": poller.reads}

    @staticmethod
    async def _read(
        hook: VocalSeparationHook, poller: BatchPoller, task_id: str, now: Callable[[], float]
    ) -> None:
        try:
            task = await hook.aread_task(task_id)
        except Exception as e:
            poller.on_error(task_id, e, now())
        else:
            poller.on_record(task_id, task, now())
