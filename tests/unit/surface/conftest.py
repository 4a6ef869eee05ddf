"""The surface against a vendor in this process."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.sandbox.server import running_sandbox


@pytest.fixture(scope="session")
def vendor():
    with running_sandbox(in_process=True, tiny_stems=True, task_seconds=0, engine="dsp") as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def connect(vendor, monkeypatch):
    """Set the connection; called again, with changes."""

    def connect(**changes):
        fields = {"conn_type": "vocalsep", "host": vendor.url, "password": vendor.api_key, **changes}
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(fields))

    connect()
    yield connect
    vendor.clear_faults()


@pytest.fixture
def vendor_task(vendor):
    """Submit a track and return the vendor's task id."""
    row = vendor.catalogue()[0]
    track = {name: row[name] for name in ("key", "task_id", "audio_id")}
    return lambda: VocalSeparationHook().submit(track)
