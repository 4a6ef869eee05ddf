"""
The decision when to read each of many vendor tasks, and when to resume their batch. Without I/O or clock.

Each answer means the same as for a single task, see :mod:`~airflow_provider_vocalsep.separation.polling`.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.separation.polling import VISIBILITY_GRACE, Ended, Poller, Sleep, WaitOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_vocalsep.api.models import SeparationTask

#: Seconds from the first ended vendor task until a batch resumes. Each resume starts a process; links to
#: stems are valid for days.
LINGER = 120.0

#: Ended vendor tasks after which their usual duration is known.
_ENOUGH = 5


class BatchPoller:
    """
    Decides for the vendor tasks of a batch. All times are epoch seconds.

    :param waiting: Submit time by vendor task id.
    :param poll_interval: Seconds between two reads of the same task.
    :param deadline: When to give up.
    :param linger: Seconds from the first ended task until the batch resumes for all that have ended by then.
    :param until: When the batch resumes in any case; ``None`` for never.
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
        """Return the vendor tasks whose read is due, the oldest submit first."""
        found = [task_id for task_id, at in self._next.items() if at <= now]
        return sorted(found, key=self.submitted.__getitem__)

    def on_record(self, task_id: str, task: SeparationTask | None, now: float) -> None:
        """Decide after a read that succeeded, see :meth:`Poller.on_record`."""
        self.reads += 1
        step = self._pollers[task_id].on_record(task, now)
        if isinstance(step, Ended) and task is not None and task.completed_at and task.created_at:
            self._took.append((task.completed_at - task.created_at).total_seconds())
        self._plan(task_id, step, now)

    def on_error(self, task_id: str, error: Exception, now: float) -> None:
        """Decide after a read that raised, see :meth:`Poller.on_error`."""
        self.reads += 1
        self._plan(task_id, self._pollers[task_id].on_error(error, now), now)

    def is_over(self, now: float) -> bool:
        """Return whether the batch has to resume."""
        idle = not self._next and (bool(self.ended) or self.until is None)
        return idle or now >= self._resume_at()

    def sleep(self, now: float) -> float:
        """Return the seconds until a read is due, or the batch has to resume."""
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
        if step.problem is None and len(self._took) >= _ENOUGH:
            # Not before its usual duration.
            at = max(at, min(self.submitted[task_id] + median(self._took), self._pollers[task_id].deadline))
        self._next[task_id] = at

    def outcomes(self) -> dict[str, tuple[WaitOutcome, str]]:
        """Return outcome and message of each ended vendor task."""
        return {task_id: (ended.outcome, ended.message) for task_id, ended in self.ended.items()}
