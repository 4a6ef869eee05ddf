"""M3: a key that is rotated while tasks wait is resolved again; no wait ends by it."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_vocalsep.client import shared
from airflow_provider_vocalsep.client.shared import close_shared_clients
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger


@pytest.fixture(autouse=True)
def no_delay(monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "-1")
    monkeypatch.setattr(shared, "MIN_RESOLVED_FOR", 0.1)


def run_with_a_stale_key(connect, *triggers):
    """Let the triggerer resolve the connection with the old key, change the connection, and run triggers."""

    async def first(trigger):
        (event,) = [event.payload async for event in trigger.run()]
        return event

    async def run():
        try:
            connect(password="revoked")
            stale = await VocalSeparationHook().get_async_client()
            connect()
            events = await asyncio.gather(*map(first, triggers))
            await stale.close()
            return events
        finally:
            await close_shared_clients()

    return asyncio.run(run())


class TestTriggers:
    def test_twenty_waits_survive_a_rotated_key(self, connect, ended_task):
        task, soon = ended_task(), time.time() + 5
        triggers = [VocalSeparationTrigger(task, deadline=soon, poll_interval=0.05) for _ in range(20)]

        events = run_with_a_stale_key(connect, *triggers)

        assert {event["status"] for event in events} == {"finished"}

    def test_wait_of_a_batch_survives_a_rotated_key(self, connect, ended_task):
        task = ended_task()
        trigger = BatchTrigger({task: time.time()}, deadline=time.time() + 5, poll_interval=0.05, linger=0)

        (event,) = run_with_a_stale_key(connect, trigger)

        assert event["ended"][task][0] == "finished"
