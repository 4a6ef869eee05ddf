"""The receiver over HTTP, with a database that only records deliveries."""

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
    """Set the connection and empty the cache; a test can call it again, with changes."""

    def connect(**extra):
        connection_cache._cache.clear()
        fields = {"callback_base_url": "https://airflow.example.com", "callback_secret": SECRET, **extra}
        value = {"conn_type": "vocalsep", "password": "key", "extra": fields}
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(value))

    connect()
    yield connect
    connection_cache._cache.clear()


@pytest.fixture
def claims():
    return CallbackClaims(
        "vocalsep_default", "my-dag", "my-run", "my-task", 3, "attempt", int(time.time()) + 600
    )


@pytest.fixture
def delivered(monkeypatch):
    """The deliveries that reached the database."""
    deliveries = []

    def deliver(delivery):
        deliveries.append(delivery)
        return resume.Effect.REMEMBERED, False

    monkeypatch.setattr(resume, "deliver", deliver)
    return deliveries


@pytest.fixture
def http():
    """Send requests to the receiver, in an event loop that ends with the test."""
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://receiver")
    yield lambda *args, **fields: loop.run_until_complete(client.request(*args, **fields))
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def vendor(connection, claims, delivered, http):
    """Post a callback as the vendor does; each part of it can be changed."""

    def post(body=None, *, token=None, secret=SECRET, headers=None, method="POST", **changed):
        if body is None:
            body = json.dumps({"code": 200, "msg": "done", "data": {"task_id": VENDOR_TASK}})
        token = token if token is not None else mint(replace(claims, **changed), secret)
        sent = {"content-type": "application/json", **(headers or {})}
        return http(method, f"/callback/{token}", content=body, headers=sent)

    return post
