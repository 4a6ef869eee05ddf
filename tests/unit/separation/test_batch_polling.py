from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.errors import VendorError, Verdict
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.separation.batch_polling import BatchPoller
from airflow_provider_vocalsep.separation.polling import WaitOutcome

START = 1_000_000.0
CREATED = datetime(2026, 11, 23, tzinfo=timezone.utc)
PENDING = SeparationTask("T", TaskStatus.PENDING)


def batch_poller(waiting, **options) -> BatchPoller:
    return BatchPoller(
        waiting, **{"poll_interval": 30, "deadline": START + 3600, "now": START, "linger": 120, **options}
    )


def record(status: TaskStatus = TaskStatus.SUCCESS, *, took: float = 90) -> SeparationTask:
    stems = (StemLink("vocals", "https://x/y"),)
    completed = CREATED + timedelta(seconds=took)
    return SeparationTask("T", status, stems, created_at=CREATED, completed_at=completed)


def ids(count: int) -> dict[str, float]:
    return {f"T{n}": START - count + n for n in range(count)}


class TestDue:
    def test_all_tasks_are_due_at_once_the_oldest_first(self):
        assert batch_poller(ids(3)).due(START) == ["T0", "T1", "T2"]

    def test_no_task_is_due_at_once_if_the_vendor_calls_back(self):
        poller = batch_poller(ids(50), read_at_once=False, poll_interval=300)

        assert poller.due(START + 149) == []
        assert poller.due(START + 300) == list(ids(50))

    def test_second_reads_are_spread_over_the_interval(self):
        poller = batch_poller(ids(40))

        for task_id in poller.due(START):
            poller.on_record(task_id, PENDING, START)

        assert poller.due(START + 14) == []
        assert 5 < len(poller.due(START + 22)) < 35
        assert len(poller.due(START + 31)) == 40

    def test_task_is_not_due_before_the_usual_duration(self):
        poller = batch_poller({**{f"T{n}": START for n in range(6)}, "young": START})

        for n in range(6):
            poller.on_record(f"T{n}", record(took=200), START + 210)
        poller.on_record("young", PENDING, START + 60)

        assert poller.due(START + 199) == []
        assert poller.due(START + 200) == ["young"]

    def test_errors_delay_a_task_and_do_not_end_it(self):
        poller = batch_poller(ids(1))

        for n in range(3):
            poller.on_error("T0", VendorError("busy", verdict=Verdict.WAIT, code=430), START + n)

        assert not poller.is_over(START + 100)
        assert poller.due(START + 100) == []
        assert poller.reads == 3


class TestIsOver:
    def test_wait_is_over_when_all_tasks_have_ended(self):
        poller = batch_poller(ids(2))

        poller.on_record("T0", record(), START)
        assert not poller.is_over(START)
        poller.on_record("T1", record(TaskStatus.GENERATE_AUDIO_FAILED), START)

        assert poller.is_over(START)
        assert poller.sleep(START) == 0
        outcomes = [outcome for outcome, _ in poller.outcomes().values()]
        assert outcomes == [WaitOutcome.FINISHED, WaitOutcome.FAILED]

    def test_wait_is_over_some_time_after_the_first_task_has_ended(self):
        poller = batch_poller(ids(2))

        poller.on_record("T0", record(), START)
        poller.on_record("T1", PENDING, START)

        assert not poller.is_over(START + 119)
        assert poller.is_over(START + 120)
        assert list(poller.outcomes()) == ["T0"]

    def test_wait_is_over_at_the_deadline_and_pending_tasks_are_given_up(self):
        poller = batch_poller(ids(1), deadline=START + 10)

        poller.on_record("T0", PENDING, START + 10)

        assert poller.is_over(START + 10)
        assert poller.outcomes()["T0"][0] is WaitOutcome.GAVE_UP

    def test_wait_for_no_task_is_over_at_once(self):
        assert batch_poller({}).is_over(START)

    def test_wait_for_a_lost_submit_alone_is_over_when_its_callback_is_late(self):
        poller = batch_poller({}, until=START + 60)

        assert not poller.is_over(START)
        assert poller.sleep(START) == 60
        assert poller.is_over(START + 60)


class TestSleep:
    def test_sleep_lasts_until_the_next_read(self):
        poller = batch_poller(ids(1))
        assert poller.sleep(START) == 0

        poller.on_record("T0", PENDING, START)

        assert poller.sleep(START) == pytest.approx(poller.sleep(START + 5) + 5)
        assert 15 <= poller.sleep(START) <= 30
