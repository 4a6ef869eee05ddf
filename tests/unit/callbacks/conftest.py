"""The receiver as a stranger meets it, with a database that only takes notes."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import httpx
import pytest

from airflow_provider_vocalsep.callbacks import connection_cache, receiver, resume
from airflow_provider_vocalsep.callbacks.token import CallbackClaims, mint

SECRET = "unit-test-secret-0123456789"
VENDOR_TASK = "3e63b4cc88d52611159371f6af5571e7"


@pytest.fixture
def connection(monkeypatch):
    """Set the connection; the receiver forgets what it knew of it."""

    def connect(**extra):
        connection_cache._kept.clear()
        fields = {"callback_base_url": "https://airflow.example.com", "callback_secret": SECRET, **extra}
        value = {"conn_type": "vocalsep", "password": "key", "extra": fields}
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(value))

    connect()
    yield connect
    connection_cache._kept.clear()


@pytest.fixture
def claims():
    return CallbackClaims(
        "vocalsep_default", "my-dag", "my-run", "my-task", 3, "attempt", int(time.time()) + 600
    )


@pytest.fixture
def delivered(monkeypatch):
    """What reached the database."""
    taken = []

    def deliver(delivery):
        taken.append(delivery)
        return resume.Effect.REMEMBERED, False

    monkeypatch.setattr(resume, "deliver", deliver)
    return taken


@pytest.fixture
def vendor(connection, claims, delivered):
    """Post as the vendor does; any part of it can be another."""

    async def request(method, path, **sent):
        transport = httpx.ASGITransport(receiver.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.request(method, path, **sent)

    def post(body=None, *, token=None, secret=SECRET, headers=None, method="POST", **changed):
        if body is None:
            body = json.dumps({"code": 200, "msg": "done", "data": {"task_id": VENDOR_TASK}})
        token = token if token is not None else mint(replace(claims, **changed), secret)
        sent = {"content-type": "application/json", **(headers or {})}
        return asyncio.run(request(method, f"/callback/{token}", content=body, headers=sent))

    return post
