from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.errors import AnswerLostError
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.separation.polling import Poller, WaitOutcome
from airflow_provider_vocalsep.separation.waiting import wait_here

PENDING = SeparationTask("T1", TaskStatus.PENDING)
DONE = SeparationTask("T1", TaskStatus.SUCCESS, (StemLink("vocals", "https://cdn/v.mp3"),))


class World:
    def __init__(self, *answers: object) -> None:
        self.answers, self.now, self.reads = list(answers), 0.0, []

    def read(self, vendor_task_id: str):
        self.reads.append((vendor_task_id, self.now))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, deadline: float = 600):
        poller = Poller("T1", poll_interval=30, deadline=deadline, visible_by=120)

        def sleep(seconds: float) -> None:
            self.now += seconds

        return wait_here(self.read, poller, now=lambda: self.now, sleep=sleep)


def test_the_first_read_comes_before_any_sleep():
    world = World(DONE)
    assert world.wait().outcome is WaitOutcome.FINISHED
    assert world.reads == [("T1", 0.0)]


def test_trouble_in_between_is_waited_through():
    world = World(PENDING, AnswerLostError("reset"), None, PENDING, DONE)
    assert world.wait().outcome is WaitOutcome.FINISHED
    assert len(world.reads) == 5


def test_the_last_read_is_at_the_deadline():
    world = World(PENDING)
    assert world.wait(deadline=100).outcome is WaitOutcome.GAVE_UP
    assert world.reads[-1][1] == pytest.approx(100)
