"""The trigger: one event, whatever happens, and a life that goes on elsewhere."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.client.shared import close_shared_clients
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.events import InvalidEventError, validate_event
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger
from airflow_provider_vocalsep.triggers.resume_delay import resume_delay, wait_for_resume_delay
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger

ALL = {
    "vendor_task_id": "t",
    "deadline": 2.0e9,
    "poll_interval": 7.0,
    "visible_by": 1.9e9,
    "vocalsep_conn_id": "other",
    "read_at_once": False,
}


def events(trigger):
    async def collect():
        try:
            return [event.payload async for event in trigger.run()]
        finally:
            await close_shared_clients()

    return asyncio.run(collect())


def wait_for(vendor_task_id, **changes):
    settings = {"deadline": time.time() + 20, "poll_interval": 0.05, "visible_by": time.time(), **changes}
    (event,) = events(VocalSeparationTrigger(vendor_task_id, **settings))
    assert event["vendor_task_id"] == vendor_task_id
    return event


@pytest.mark.parametrize(
    "trigger",
    [VocalSeparationTrigger(**ALL), LostSubmitTrigger(attempt_id="a", until=2.0e9)],
    ids=lambda t: type(t).__name__,
)
def test_goes_on_elsewhere_from_what_it_serializes(trigger):
    path, arguments = trigger.serialize()
    module, name = path.rsplit(".", 1)
    again = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))

    assert again.serialize() == (path, arguments)
    if isinstance(trigger, VocalSeparationTrigger):
        assert arguments == ALL


@pytest.mark.usefixtures("resumed_at_once")
class TestItsEvent:
    def test_tells_that_the_task_is_finished_after_one_read(self, vendor_task):
        task = vendor_task()
        time.sleep(0.5)
        event = wait_for(task)

        assert (event["status"], event["reads"]) == ("finished", 1)

    def test_tells_why_the_vendor_gave_up(self, vendor, vendor_task):
        vendor.set_fault("task", "fail", code=500, message="the vendor is sorry")
        event = wait_for(vendor_task())

        assert event["status"] == "failed"
        assert "the vendor is sorry" in event["message"]

    def test_tells_that_the_deadline_passed_and_what_a_retry_does(self, vendor, vendor_task):
        vendor.set_fault("task", "stuck")
        event = wait_for(vendor_task(), deadline=time.time() + 0.3)

        assert event["status"] == "gave_up"
        assert event["reads"] > 1
        assert "a retry attaches to it" in event["message"]

    def test_tells_that_the_vendor_does_not_know_the_task(self):
        assert wait_for("f" * 32)["status"] == "unknown"

    def test_tells_that_the_key_is_refused(self, connect):
        connect(password="wrong")
        event = wait_for("f" * 32)

        assert event["status"] == "refused"
        assert "clear this Airflow task" in event["message"]

    def test_comes_in_spite_of_passing_trouble(self, vendor, vendor_task):
        vendor.set_fault("read", "html", times=3)

        assert wait_for(vendor_task())["status"] == "finished"

    def test_comes_without_a_read_where_a_callback_is_expected(self, vendor, vendor_task):
        """The first read is within the interval, not at once; the last at the deadline."""
        vendor.set_fault("task", "stuck")
        polls = vendor.totals()["polls"]
        event = wait_for(vendor_task(), read_at_once=False, poll_interval=60, deadline=time.time() + 0.3)

        assert event["status"] == "gave_up"
        assert vendor.totals()["polls"] == polls + 1

    def test_of_a_lost_submit_comes_when_the_grace_is_over(self):
        started = time.time()
        (event,) = events(LostSubmitTrigger("a", until=started + 0.2))

        assert event["status"] == "gave_up"
        assert time.time() - started >= 0.2


@pytest.mark.parametrize(
    "event", [None, {}, {"status": "success", "vendor_task_id": "t"}, {"status": "finished"}, "x"]
)
def test_an_event_that_is_not_ours_is_never_taken_for_success(event):
    with pytest.raises(InvalidEventError, match="a retry attaches"):
        validate_event(event)


class TestItsRest:
    """A scheduler fails a task that is resumed before its worker has reported that it was parked."""

    def test_is_as_long_as_a_supervisor_may_be_late_and_a_second(self, monkeypatch):
        assert resume_delay() == 6
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")
        assert resume_delay() == 2

    @pytest.mark.parametrize("kind", ["one task", "batch", "lost submit"])
    def test_delays_the_event_and_not_the_first_read(self, kind, vendor, vendor_task, monkeypatch):
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
        task, soon = vendor_task(), time.time() + 20
        time.sleep(0.5)
        trigger = {
            "one task": VocalSeparationTrigger(task, deadline=soon),
            "batch": BatchTrigger({task: time.time()}, deadline=soon),
            "lost submit": LostSubmitTrigger("a", until=time.time() - 1),
        }[kind]
        polls, began = vendor.totals()["polls"], time.monotonic()

        assert len(events(trigger)) == 1
        assert 1 <= time.monotonic() - began < 5
        assert vendor.totals()["polls"] - polls == (0 if kind == "lost submit" else 1)

    def test_is_over_for_a_wait_that_took_longer(self, monkeypatch):
        slept = []

        async def sleep(seconds):
            slept.append(seconds)

        monkeypatch.setattr(
            "airflow_provider_vocalsep.triggers.resume_delay.asyncio", SimpleNamespace(sleep=sleep)
        )
        asyncio.run(wait_for_resume_delay(time.monotonic() - 7))
        asyncio.run(wait_for_resume_delay(time.monotonic() - 2))

        assert slept == [0, pytest.approx(4, abs=0.5)]


@pytest.mark.usefixtures("resumed_at_once")
@pytest.mark.parametrize("jump", [-7200, 7200], ids=["back", "forth"])
class TestAJumpOfTheClock:
    """The machine's clock is set while a trigger waits: that neither ends the wait nor stops it."""

    @pytest.fixture(autouse=True)
    def after_the_first_read(self, jump, monkeypatch):
        """Set the clock; the vendor is done at the third read. (A sandbox in this process would see the jump, too.)"""
        wall, reads = time.time, Counter()

        async def read(hook, task_id):
            reads[task_id] += 1
            monkeypatch.setattr(time, "time", lambda: wall() + jump)
            status = TaskStatus.PENDING if reads[task_id] < 3 else TaskStatus.SUCCESS
            return SeparationTask(task_id, status, (StemLink("vocals", "https://vendor/v"),))

        monkeypatch.setattr(VocalSeparationHook, "aread_task", read)

    def test_does_not_matter_to_one_task(self):
        event = wait_for("t")
        assert (event["status"], event["reads"]) == ("finished", 3)

    def test_does_not_matter_to_a_batch(self):
        waiting = {"a": time.time(), "b": time.time()}
        (event,) = events(BatchTrigger(waiting, deadline=time.time() + 20, poll_interval=0.05, linger=1))
        assert {task: outcome for task, (outcome, _) in event["ended"].items()} == {
            "a": "finished", "b": "finished",
        }  # fmt: skip
