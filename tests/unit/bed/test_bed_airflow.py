from __future__ import annotations

import pytest

from airflow_provider_vocalsep.demo.airflow_api import AirflowApiError
from tests.bed.airflow import BedAirflowApi


@pytest.fixture
def api(monkeypatch):
    """Return a client whose reads of task ``t`` return the given states, the last of them for ever."""

    def make(*states):
        left = list(states)
        client = BedAirflowApi("http://airflow.invalid", "demo", "secret")

        def task_instances(*_):
            state = left.pop(0) if len(left) > 1 else left[0]
            return [{"task_id": "t", "map_index": -1, "state": state, "try_number": 1}]

        monkeypatch.setattr(client, "task_instances", task_instances)
        return client

    return make


class TestWaitForTask:
    def test_task_in_a_wanted_state_is_returned(self, api):
        client = api("queued", "running", "deferred")

        found = client.wait_for_task("d", "r", "t", ["deferred"], every=0)

        assert found["state"] == "deferred"

    def test_task_that_ended_in_another_state_is_an_error_at_once(self, api):
        client = api("failed")

        with pytest.raises(AirflowApiError, match=r"to be deferred; it is t failed \(try 1\)"):
            client.wait_for_task("d", "r", "t", ["deferred"], timeout=60)
