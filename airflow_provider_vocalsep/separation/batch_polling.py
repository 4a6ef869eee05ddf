"""
When to read which of many vendor tasks, and when to resume their batch, without I/O and without a clock.

What one answer means is decided as for a single task, see
:mod:`~airflow_provider_vocalsep.separation.polling`.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.separation.polling import VISIBILITY_GRACE, Ended, Poller, Sleep, WaitOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_vocalsep.api.models import SeparationTask

#: Seconds for which a batch lets ended tasks gather before it is resumed for them. A resume costs a process
#: start; links to stems work for days.
LINGER = 120.0

#: Ended tasks of which the vendor's usual time is learned.
_ENOUGH = 5


class BatchPoller:
    """
    Watches the vendor tasks of a batch.

    :param waiting: When each was submitted, in epoch seconds, by vendor task id.
    :param poll_interval: Seconds between two reads of the same task.
    :param deadline: When to give up, in epoch seconds.
    :param linger: Seconds from the first ended task until the batch is resumed for what has ended by then.
    :param until: When the batch is to be resumed whatever has ended; ``None`` for no such time.
    :param now: Epoch seconds.
    :param read_at_once: Whether the first reads come before any sleep.
    """

    def __init__(
        self,
        waiting: Mapping[str, float],
        *,
        poll_interval: float,
        deadline: float,
        now: float,
        linger: float = LINGER,
        until: float | None = None,
        read_at_once: bool = True,
    ) -> None:
        self.submitted = dict(waiting)
        self.linger = linger
        self.until = until
        self.ended: dict[str, Ended] = {}
        self.reads = 0
        self._first_end: float | None = None
        self._took: list[float] = []
        self._pollers = {
            task_id: Poller(
                task_id,
                poll_interval=poll_interval,
                deadline=deadline,
                visible_by=submitted + VISIBILITY_GRACE,
            )
            for task_id, submitted in waiting.items()
        }
        self._next: dict[str, float] = {}
        for task_id, poller in self._pollers.items():
            first = Sleep(0.0) if read_at_once else poller.begin(now)
            self._plan(task_id, first, now)

    def due(self, now: float) -> list[str]:
        """Return what is to be read now, the oldest submit first."""
        found = [task_id for task_id, at in self._next.items() if at <= now]
        return sorted(found, key=self.submitted.__getitem__)

    def on_record(self, task_id: str, task: SeparationTask | None, now: float) -> None:
        """Take note of a read that worked."""
        self.reads += 1
        step = self._pollers[task_id].on_record(task, now)
        if isinstance(step, Ended) and task is not None and task.completed_at and task.created_at:
            self._took.append((task.completed_at - task.created_at).total_seconds())
        self._plan(task_id, step, now)

    def on_error(self, task_id: str, error: Exception, now: float) -> None:
        """Take note of a read that raised."""
        self.reads += 1
        self._plan(task_id, self._pollers[task_id].on_error(error, now), now)

    def is_over(self, now: float) -> bool:
        """Tell whether the batch is to be resumed."""
        idle = not self._next and (bool(self.ended) or self.until is None)
        return idle or now >= self._resume_at()

    def sleep(self, now: float) -> float:
        """Return the seconds until there is something to do."""
        if self.is_over(now):
            return 0.0
        return max(0.0, min([*self._next.values(), self._resume_at()]) - now)

    def _resume_at(self) -> float:
        gathered = float("inf") if self._first_end is None else self._first_end + self.linger
        return gathered if self.until is None else min(gathered, self.until)

    def _plan(self, task_id: str, step: Sleep | Ended, now: float) -> None:
        if isinstance(step, Ended):
            self._next.pop(task_id, None)
            self.ended[task_id] = step
            if self._first_end is None:
                self._first_end = now
            return
        at = now + step.seconds
        if step.trouble is None and len(self._took) >= _ENOUGH:
            # Not before the vendor is usually done with it.
            at = max(at, min(self.submitted[task_id] + median(self._took), self._pollers[task_id].deadline))
        self._next[task_id] = at

    def outcomes(self) -> dict[str, tuple[WaitOutcome, str]]:
        """Return how each ended task ended, and the words for it."""
        return {task_id: (ended.outcome, ended.message) for task_id, ended in self.ended.items()}
