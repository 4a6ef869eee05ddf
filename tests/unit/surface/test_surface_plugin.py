from __future__ import annotations

import asyncio
import gc

import httpx
import pytest

from airflow_provider_vocalsep.plugin import forks_task_processes, page, receiver, spare_the_heap


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
def test_processes_whose_forks_run_tasks_are_known(command, does):
    assert forks_task_processes(command) is does


@pytest.mark.parametrize(
    ("app", "path"), [(receiver, "/callback/x"), (page, "/nothing")], ids=["receiver", "page"]
)
def test_the_first_request_takes_what_is_loaded_out_of_garbage_collection(app, path, monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    spare_the_heap.cache_clear()

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow") as http:
            return [await http.get(path) for _ in range(3)]

    asyncio.run(ask())

    assert len(frozen) == 1
