"""Hook, sensor and triggers against a sandbox in this process."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.sandbox.server import running_sandbox


@pytest.fixture(scope="session")
def vendor():
    with running_sandbox(in_process=True, tiny_stems=True, task_seconds=0, engine="dsp") as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def connect(vendor, monkeypatch):
    """Set the connection; a test can call it again, with changes."""

    def connect(**changes):
        fields = {"conn_type": "vocalsep", "host": vendor.url, "password": vendor.api_key, **changes}
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(fields))

    connect()
    yield connect
    vendor.clear_faults()


@pytest.fixture
def submit(vendor):
    """Submit a track and return the vendor task id."""
    row = vendor.catalogue()[0]
    track = {name: row[name] for name in ("key", "task_id", "audio_id")}
    return lambda: VocalSeparationHook().submit(track)


@pytest.fixture
def ended_task(submit):
    """Submit a track, wait until the vendor task has ended, and return its id."""

    def submit_and_wait():
        task_id, hook = submit(), VocalSeparationHook()

        def has_ended():
            task = hook.read_task(task_id)
            return task.finished or task.failed

        wait_until(has_ended, what="the vendor task", timeout=5, every=0.01)
        return task_id

    return submit_and_wait
