"""The triggers: one event each, not before the resume delay, and serialized completely."""

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

ARGUMENTS = {
    "vendor_task_id": "t",
    "deadline": 2.0e9,
    "poll_interval": 7.0,
    "visible_by": 1.9e9,
    "vocalsep_conn_id": "other",
    "read_at_once": False,
}


def run(trigger):
    """Return the payloads of its events."""

    async def collect():
        try:
            return [event.payload async for event in trigger.run()]
        finally:
            await close_shared_clients()

    return asyncio.run(collect())


def wait_for(vendor_task_id, **changes):
    """Run a trigger for a vendor task and return its only event."""
    settings = {"deadline": time.time() + 20, "poll_interval": 0.01, "visible_by": time.time(), **changes}
    (event,) = run(VocalSeparationTrigger(vendor_task_id, **settings))
    assert event["vendor_task_id"] == vendor_task_id
    return event


class TestSerialize:
    @pytest.mark.parametrize(
        "trigger",
        [
            VocalSeparationTrigger(**ARGUMENTS),
            BatchTrigger({"t": 1.9e9}, 2.0e9, 7.0, "other", 3.0, ["a"], 1.8e9, read_at_once=False),
            LostSubmitTrigger(attempt_id="a", until=2.0e9),
        ],
        ids=lambda t: type(t).__name__,
    )
    def test_serialized_trigger_is_restored_with_all_its_arguments(self, trigger):
        path, arguments = trigger.serialize()
        module, name = path.rsplit(".", 1)

        restored = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))

        assert restored.serialize() == (path, arguments)

    def test_every_argument_is_serialized(self):
        _, arguments = VocalSeparationTrigger(**ARGUMENTS).serialize()

        assert arguments == ARGUMENTS


@pytest.fixture
def no_patience(monkeypatch):
    """Let an answer that ends a wait end it at once."""
    monkeypatch.setattr("airflow_provider_vocalsep.separation.polling.PERSISTENT_READS", 1)
    monkeypatch.setattr("airflow_provider_vocalsep.separation.polling.PERSISTENT_FOR", 0)


@pytest.mark.usefixtures("no_resume_delay")
class TestVocalSeparationTrigger:
    def test_finished_task_is_reported_after_one_read(self, ended_task):
        event = wait_for(ended_task())

        assert (event["status"], event["reads"]) == ("finished", 1)

    def test_failed_task_is_reported_with_the_vendors_message(self, vendor, submit):
        vendor.set_fault("task", "fail", code=500, message="the vendor is sorry")

        event = wait_for(submit())

        assert event["status"] == "failed"
        assert "the vendor is sorry" in event["message"]

    def test_passed_deadline_is_reported_with_what_a_retry_does(self, vendor, submit):
        vendor.set_fault("task", "stuck")

        event = wait_for(submit(), deadline=time.time() + 0.1)

        assert event["status"] == "gave_up"
        assert event["reads"] > 1
        assert "a retry attaches to it" in event["message"]

    def test_task_that_the_vendor_does_not_know_is_reported(self, no_patience):
        assert wait_for("f" * 32)["status"] == "unknown"

    def test_refused_api_key_is_reported_with_the_next_step(self, connect, no_patience):
        connect(password="wrong")

        event = wait_for("f" * 32)

        assert event["status"] == "refused"
        assert "a clear of this Airflow task, attaches again" in event["message"]

    def test_transient_errors_do_not_end_the_wait(self, vendor, submit):
        vendor.set_fault("read", "html", times=3)

        assert wait_for(submit())["status"] == "finished"

    def test_nothing_is_read_at_once_where_a_callback_is_expected(self, vendor, submit):
        """The first read is within the interval, not at once; the last at the deadline."""
        vendor.set_fault("task", "stuck")
        polls = vendor.totals()["polls"]

        event = wait_for(submit(), read_at_once=False, poll_interval=60, deadline=time.time() + 0.1)

        assert event["status"] == "gave_up"
        assert vendor.totals()["polls"] == polls + 1


@pytest.mark.usefixtures("no_resume_delay")
class TestLostSubmitTrigger:
    def test_event_comes_when_the_grace_is_over(self):
        started = time.time()

        (event,) = run(LostSubmitTrigger("a", until=started + 0.05))

        assert event["status"] == "gave_up"
        assert time.time() - started >= 0.05


class TestValidateEvent:
    @pytest.mark.parametrize(
        "event", [None, {}, {"status": "success", "vendor_task_id": "t"}, {"status": "finished"}, "x"]
    )
    def test_foreign_event_is_refused_and_never_counts_as_success(self, event):
        with pytest.raises(InvalidEventError, match="a retry attaches"):
            validate_event(event)


class TestResumeDelay:
    """A scheduler fails a task that is resumed before its worker has reported that it was deferred."""

    @pytest.fixture
    def sleeps(self, monkeypatch, vendor):
        """Record each sleep of the resume delay instead of sleeping, with the polls of the vendor by then."""
        slept = []

        async def sleep(seconds):
            slept.append((seconds, vendor.totals()["polls"]))

        monkeypatch.setattr(
            "airflow_provider_vocalsep.triggers.resume_delay.asyncio", SimpleNamespace(sleep=sleep)
        )
        return slept

    def test_delay_is_the_supervisors_heartbeat_interval_and_a_second(self, monkeypatch):
        assert resume_delay() == 6

        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")

        assert resume_delay() == 2

    @pytest.mark.parametrize("kind", ["one task", "batch", "lost submit"])
    def test_event_is_delayed_but_not_the_first_read(self, kind, vendor, ended_task, sleeps, monkeypatch):
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
        task, soon = ended_task(), time.time() + 20
        trigger = {
            "one task": VocalSeparationTrigger(task, deadline=soon),
            "batch": BatchTrigger({task: time.time()}, deadline=soon),
            "lost submit": LostSubmitTrigger("a", until=time.time() - 1),
        }[kind]
        polls = vendor.totals()["polls"]

        events = run(trigger)

        assert len(events) == 1
        reads = 0 if kind == "lost submit" else 1
        assert sleeps == [(pytest.approx(1, abs=0.5), polls + reads)]
        assert vendor.totals()["polls"] == polls + reads

    def test_delay_is_over_after_a_wait_that_took_longer(self, sleeps):
        asyncio.run(wait_for_resume_delay(time.monotonic() - 7))
        asyncio.run(wait_for_resume_delay(time.monotonic() - 2))

        assert [seconds for seconds, _ in sleeps] == [0, pytest.approx(4, abs=0.5)]


@pytest.mark.usefixtures("no_resume_delay")
@pytest.mark.parametrize("jump", [-7200, 7200], ids=["back", "forth"])
class TestClockJump:
    """The machine's clock is set while a trigger waits: that neither ends the wait nor stops it."""

    @pytest.fixture(autouse=True)
    def jump_after_the_first_read(self, jump, monkeypatch):
        """Set the clock; the task ends at the third read. (A sandbox in this process would see the jump.)"""
        wall, reads = time.time, Counter()

        async def read(hook, task_id):
            reads[task_id] += 1
            monkeypatch.setattr(time, "time", lambda: wall() + jump)
            status = TaskStatus.PENDING if reads[task_id] < 3 else TaskStatus.SUCCESS
            return SeparationTask(task_id, status, (StemLink("vocals", "https://vendor/v"),))

        monkeypatch.setattr(VocalSeparationHook, "aread_task", read)

    def test_clock_jump_does_not_affect_the_wait_for_one_task(self):
        event = wait_for("t")

        assert (event["status"], event["reads"]) == ("finished", 3)

    def test_clock_jump_does_not_affect_the_wait_for_a_batch(self):
        waiting = {"a": time.time(), "b": time.time()}

        (event,) = run(BatchTrigger(waiting, deadline=time.time() + 20, poll_interval=0.01, linger=1))

        outcomes = {task: outcome for task, (outcome, _) in event["ended"].items()}
        assert outcomes == {"a": "finished", "b": "finished"}
