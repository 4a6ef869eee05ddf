"""The sensor, deferred and poking."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError
from airflow_provider_vocalsep.triggers.events import InvalidEventError


@pytest.fixture
def sensor():
    return lambda task, **arguments: VocalSeparationSensor(
        task_id="wait", vendor_task_id=task, poke_interval=0.01, timeout=20, **arguments
    )


def event(task, status="finished"):
    return {"status": status, "vendor_task_id": task, "message": "said"}


class TestExecute:
    def test_finished_task_is_returned_without_deferring(self, sensor, ended_task):
        outcome = sensor(ended_task()).execute({})

        assert outcome["status"] == "SUCCESS"
        assert set(outcome["stems"]) == {"vocals", "instrumental"}

    def test_unfinished_task_is_deferred_to_the_triggerer(self, sensor, vendor, submit):
        vendor.set_fault("task", "stuck")
        task = submit()

        with pytest.raises(TaskDeferred) as deferred:
            sensor(task).execute({})

        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.trigger.vendor_task_id == task


class TestExecuteComplete:
    def test_sensor_defers_again_if_the_record_does_not_confirm_a_callback(self, sensor, vendor, submit):
        vendor.set_fault("task", "stuck")
        task = submit()

        with pytest.raises(TaskDeferred):
            sensor(task).execute_complete({}, event(task, "called_back"))

    @pytest.mark.parametrize("status", ["finished", "called_back"])
    def test_record_of_a_finished_task_is_returned(self, sensor, ended_task, status):
        task = ended_task()

        outcome = sensor(task).execute_complete({}, event(task, status))

        assert outcome["vendor_task_id"] == task

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("failed", AirflowFailException),
            ("unknown", WaitGivenUpError),
            ("refused", WaitGivenUpError),
            ("gave_up", AirflowSensorTimeout),
            ("whatever", InvalidEventError),
        ],
    )
    def test_any_other_outcome_fails_the_sensor(self, sensor, status, error):
        with pytest.raises(error):
            sensor("t").execute_complete({}, event("t", status))

    def test_callback_about_a_failed_task_fails_the_sensor(self, sensor, vendor, ended_task):
        vendor.set_fault("task", "fail", code=500, message="the vendor is sorry")
        task = ended_task()

        with pytest.raises(AirflowFailException, match="the vendor is sorry"):
            sensor(task).execute_complete({}, event(task, "called_back"))


class TestPoke:
    def test_sensor_pokes_until_the_task_ends_despite_transient_errors(
        self, sensor, vendor, submit, monkeypatch
    ):
        monkeypatch.setattr("airflow_provider_vocalsep.client.blocking._READ_TRIES", 1)
        vendor.set_fault("read", "html", times=2)

        outcome = sensor(submit(), deferrable=False).execute({})

        assert outcome["status"] == "SUCCESS"

    def test_failed_task_is_returned_if_fail_on_failed_task_is_false(self, sensor, vendor, submit):
        vendor.set_fault("task", "fail", code=500)

        outcome = sensor(submit(), deferrable=False, fail_on_failed_task=False).execute({})

        assert outcome["status"] == "GENERATE_AUDIO_FAILED"
