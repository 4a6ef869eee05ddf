from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.errors import AnswerLostError
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.separation.polling import Ended, Poller, WaitOutcome
from airflow_provider_vocalsep.separation.waiting import wait_here

PENDING = SeparationTask("T1", TaskStatus.PENDING)
DONE = SeparationTask("T1", TaskStatus.SUCCESS, (StemLink("vocals", "https://cdn/v.mp3"),))


class WaitingBench:
    """A vendor that gives each answer in turn, the last one for ever, and a clock that sleeping advances."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.reads: list[tuple[str, float]] = []

    def read(self, vendor_task_id: str) -> SeparationTask | None:
        self.reads.append((vendor_task_id, self.now))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, deadline: float = 600) -> Ended:
        poller = Poller("T1", poll_interval=30, deadline=deadline, visible_by=120)

        def sleep(seconds: float) -> None:
            self.now += seconds

        return wait_here(self.read, poller, now=lambda: self.now, sleep=sleep)


class TestWaitHere:
    def test_first_read_comes_before_any_sleep(self):
        bench = WaitingBench(DONE)

        assert bench.wait().outcome is WaitOutcome.FINISHED
        assert bench.reads == [("T1", 0.0)]

    def test_transient_errors_do_not_end_the_wait(self):
        bench = WaitingBench(PENDING, AnswerLostError("reset"), None, PENDING, DONE)

        assert bench.wait().outcome is WaitOutcome.FINISHED
        assert len(bench.reads) == 5

    def test_last_read_is_at_the_deadline(self):
        bench = WaitingBench(PENDING)

        assert bench.wait(deadline=100).outcome is WaitOutcome.GAVE_UP
        assert bench.reads[-1][1] == pytest.approx(100)
