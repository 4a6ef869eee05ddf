"""The sensor, parked and poking."""

from __future__ import annotations

import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.triggers.events import InvalidEventError


@pytest.fixture
def sensor():
    return lambda task, **arguments: VocalSeparationSensor(
        task_id="wait", vendor_task_id=task, poke_interval=0.1, timeout=20, **arguments
    )


def event(task, status="finished"):
    return {"status": status, "vendor_task_id": task, "message": "said"}


def finished(task):
    time.sleep(0.5)
    return task


class TestParked:
    def test_returns_at_once_what_is_finished(self, sensor, vendor_task):
        outcome = sensor(finished(vendor_task())).execute({})

        assert outcome["status"] == "SUCCESS"
        assert set(outcome["stems"]) == {"vocals", "instrumental"}

    def test_leaves_the_wait_to_the_triggerer(self, sensor, vendor, vendor_task):
        vendor.set_fault("task", "stuck")
        task = vendor_task()
        with pytest.raises(TaskDeferred) as deferred:
            sensor(task).execute({})

        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.trigger.vendor_task_id == task

    def test_waits_on_when_the_record_does_not_confirm_a_callback(self, sensor, vendor, vendor_task):
        vendor.set_fault("task", "stuck")
        task = vendor_task()
        with pytest.raises(TaskDeferred):
            sensor(task).execute_complete({}, event(task, "called_back"))

    @pytest.mark.parametrize("status", ["finished", "called_back"])
    def test_returns_the_record_in_the_end(self, sensor, vendor_task, status):
        task = finished(vendor_task())

        assert sensor(task).execute_complete({}, event(task, status))["vendor_task_id"] == task

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("failed", AirflowFailException),
            ("unknown", AirflowFailException),
            ("refused", AirflowFailException),
            ("gave_up", AirflowSensorTimeout),
            ("whatever", InvalidEventError),
        ],
    )
    def test_fails_on_any_other_end(self, sensor, status, error):
        with pytest.raises(error):
            sensor("t").execute_complete({}, event("t", status))

    def test_fails_when_it_is_called_back_about_a_failure(self, sensor, vendor, vendor_task):
        vendor.set_fault("task", "fail", code=500, message="the vendor is sorry")
        task = finished(vendor_task())
        with pytest.raises(AirflowFailException, match="the vendor is sorry"):
            sensor(task).execute_complete({}, event(task, "called_back"))


class TestPoking:
    def test_goes_on_until_the_task_ends(self, sensor, vendor, vendor_task):
        vendor.set_fault("read", "html", times=2)

        assert sensor(vendor_task(), deferrable=False).execute({})["status"] == "SUCCESS"

    def test_can_return_a_failed_task_instead_of_failing(self, sensor, vendor, vendor_task):
        vendor.set_fault("task", "fail", code=500)
        outcome = sensor(vendor_task(), deferrable=False, fail_on_failed_task=False).execute({})

        assert outcome["status"] == "GENERATE_AUDIO_FAILED"
