from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.errors import VendorError, Verdict
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.separation.batch_polling import BatchPoller
from airflow_provider_vocalsep.separation.polling import WaitOutcome

START = 1_000_000.0


def sweep(waiting, **options) -> BatchPoller:
    return BatchPoller(
        waiting, **{"poll_interval": 30, "deadline": START + 3600, "now": START, "linger": 120, **options}
    )


def record(status: TaskStatus = TaskStatus.SUCCESS, *, took: float = 90) -> SeparationTask:
    created = datetime(2026, 11, 23, tzinfo=timezone.utc)
    return SeparationTask(
        "T",
        status,
        (StemLink("vocals", "https://x/y"),),
        created_at=created,
        completed_at=created + timedelta(seconds=took),
    )  # fmt: skip


PENDING = SeparationTask("T", TaskStatus.PENDING)


def ids(count: int) -> dict[str, float]:
    return {f"T{n}": START - count + n for n in range(count)}


class TestReads:
    def test_begin_at_once_with_the_oldest(self):
        assert sweep(ids(3)).due(START) == ["T0", "T1", "T2"]

    def test_wait_where_the_vendor_calls_back(self):
        watching = sweep(ids(50), read_at_once=False, poll_interval=300)
        assert watching.due(START + 149) == []
        assert watching.due(START + 300) == list(ids(50))

    def test_come_back_after_the_interval_spread_over_it(self):
        watching = sweep(ids(40))
        for task_id in watching.due(START):
            watching.on_record(task_id, PENDING, START)
        assert watching.due(START + 14) == []
        assert 5 < len(watching.due(START + 22)) < 35
        assert len(watching.due(START + 31)) == 40

    def test_are_put_off_to_when_the_vendor_is_usually_done(self):
        watching = sweep({**{f"T{n}": START for n in range(6)}, "young": START})
        for n in range(6):
            watching.on_record(f"T{n}", record(took=200), START + 210)
        watching.on_record("young", PENDING, START + 60)
        assert watching.due(START + 199) == []
        assert watching.due(START + 200) == ["young"]

    def test_that_are_in_trouble_come_back_later_and_end_nothing(self):
        watching = sweep(ids(1))
        for n in range(3):
            watching.on_error("T0", VendorError("busy", verdict=Verdict.WAIT, code=430), START + n)
        assert not watching.is_over(START + 100)
        assert watching.due(START + 100) == []
        assert watching.reads == 3


class TestTheEnd:
    def test_is_when_all_have_ended(self):
        watching = sweep(ids(2))
        watching.on_record("T0", record(), START)
        assert not watching.is_over(START)
        watching.on_record("T1", record(TaskStatus.GENERATE_AUDIO_FAILED), START)
        assert watching.is_over(START)
        assert watching.sleep(START) == 0
        assert [outcome for outcome, _ in watching.outcomes().values()] == [
            WaitOutcome.FINISHED,
            WaitOutcome.FAILED,
        ]

    def test_is_when_some_have_and_enough_time_has_passed(self):
        watching = sweep(ids(2))
        watching.on_record("T0", record(), START)
        watching.on_record("T1", PENDING, START)
        assert not watching.is_over(START + 119)
        assert watching.is_over(START + 120)
        assert list(watching.outcomes()) == ["T0"]

    def test_is_at_the_deadline_with_what_was_waited_for_in_vain(self):
        watching = sweep(ids(1), deadline=START + 10)
        watching.on_record("T0", PENDING, START + 10)
        assert watching.is_over(START + 10)
        assert watching.outcomes()["T0"][0] is WaitOutcome.GAVE_UP

    def test_of_nothing_is_at_once(self):
        assert sweep({}).is_over(START)

    def test_with_a_doubt_comes_when_its_callback_is_given_up(self):
        watching = sweep({}, until=START + 60)
        assert not watching.is_over(START)
        assert watching.sleep(START) == 60
        assert watching.is_over(START + 60)


def test_it_sleeps_until_there_is_something_to_do():
    watching = sweep(ids(1))
    assert watching.sleep(START) == 0
    watching.on_record("T0", PENDING, START)
    assert watching.sleep(START) == pytest.approx(watching.sleep(START + 5) + 5)
    assert 15 <= watching.sleep(START) <= 30
