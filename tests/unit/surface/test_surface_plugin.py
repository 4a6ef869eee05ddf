"""What the plugin does in Airflow's own processes."""

from __future__ import annotations

import asyncio
import gc

import httpx
import pytest

from airflow_provider_vocalsep.plugin import forks_task_processes, freeze_gc, serve_callbacks, serve_page


class TestForksTaskProcesses:
    @pytest.mark.parametrize(
        ("command", "does"),
        [
            (["airflow", "scheduler"], True),
            (["/usr/bin/airflow", "scheduler", "--skip-serve-logs"], True),
            (["airflow", "celery", "worker", "-q", "stems"], True),
            (["airflow", "celery", "flower"], False),
            (["airflow", "api-server"], False),
            (["airflow", "triggerer"], False),
            (["airflow", "dags", "list"], False),
        ],
    )
    def test_scheduler_and_celery_worker_fork_task_processes(self, command, does):
        assert forks_task_processes(command) is does


class TestFreezeGc:
    @pytest.mark.parametrize(
        ("app", "path"),
        [(serve_callbacks, "/callback/x"), (serve_page, "/nothing")],
        ids=["receiver", "page"],
    )
    def test_garbage_collection_is_frozen_once_at_the_first_request(self, app, path, monkeypatch):
        calls = []
        monkeypatch.setattr(gc, "freeze", lambda: calls.append(1))
        freeze_gc.cache_clear()

        async def send_requests():
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://airflow"
            ) as client:
                return [await client.get(path) for _ in range(3)]

        asyncio.run(send_requests())

        assert len(calls) == 1
