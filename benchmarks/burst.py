"""Sends a burst of callbacks from many connections, and reads the recorded ones from the database."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import psycopg2

from airflow_provider_vocalsep.callbacks.inbox import inbox_key
from airflow_provider_vocalsep.callbacks.token import CALLBACK_PATH, CallbackClaims, mint


@dataclass(frozen=True)
class Delivery:
    """
    One request.

    :param status: Expected status of the answer.
    """

    url: str
    body: dict[str, Any]
    status: int


@dataclass(frozen=True)
class BurstResult:
    """
    Result of a burst.

    :param seconds: Duration of the burst.
    :param latencies: Seconds until each answer, sorted.
    :param wrong: Number of unexpected answers by status.
    """

    seconds: float
    latencies: list[float]
    wrong: dict[int, int]

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        return self.latencies[int(len(self.latencies) * 0.99)]


class Burst:
    """
    A third each of valid, duplicate and forged deliveries, in random order.

    :param base_url: Address of the API server.
    :param task_instances: Task instances of the deliveries, as claims whose attempt is replaced.
    :param secret: Secret that signs the addresses.
    :param deliveries: Number of deliveries.
    """

    def __init__(
        self, base_url: str, task_instances: list[CallbackClaims], secret: str, deliveries: int
    ) -> None:
        self.valid = -(-deliveries // 3)
        self.duplicates = (deliveries - self.valid) // 2
        self.attempts = [uuid.uuid4().hex for _ in range(self.valid)]
        claims = [
            replace(
                task_instances[n % len(task_instances)], attempt_id=attempt, expires=int(time.time()) + 3600
            )
            for n, attempt in enumerate(self.attempts)
        ]
        address = base_url + CALLBACK_PATH
        valid = [Delivery(address + mint(c, secret), _body(c.attempt_id), 200) for c in claims]
        forged = [
            Delivery(address + mint(c, "not-the-secret-of-the-connection"), _body(c.attempt_id), 401)
            for c in claims[: deliveries - self.valid - self.duplicates]
        ]
        self.requests = [*valid, *valid[: self.duplicates], *forged]
        random.Random(1).shuffle(self.requests)

    def read_recorded(self, database: str) -> dict[str, int]:
        """Return the recorded number of deliveries of each attempt, and check their vendor tasks."""
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT key, value FROM task_state_store WHERE key LIKE 'vocalsep-callback-%%'")
            rows = cursor.fetchall()
        connection.close()
        keys = {inbox_key(attempt): attempt for attempt in self.attempts}
        counts: dict[str, int] = {}
        for key, value in rows:
            if key in keys:
                (recorded,) = json.loads(value)
                assert keys[key] not in counts, "recorded twice"
                assert recorded["vendor_task_id"] == keys[key]
                counts[keys[key]] = recorded["count"]
        return counts


def send(deliveries: list[Delivery], connections: int) -> BurstResult:
    """Send all deliveries over the given number of concurrent connections."""
    return asyncio.run(_send(deliveries, connections))


async def _send(deliveries: list[Delivery], connections: int) -> BurstResult:
    latencies: list[float] = []
    wrong: dict[int, int] = {}
    left = iter(deliveries)

    async def send_from(session: aiohttp.ClientSession) -> None:
        for delivery in left:
            began = time.perf_counter()
            async with session.post(delivery.url, json=delivery.body) as answer:
                await answer.read()
            latencies.append(time.perf_counter() - began)
            if answer.status != delivery.status:
                wrong[answer.status] = wrong.get(answer.status, 0) + 1

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(send_from(session) for _ in range(connections)))
        seconds = time.perf_counter() - began
    return BurstResult(seconds, sorted(latencies), wrong)


def _body(vendor_task_id: str) -> dict[str, Any]:
    return {"code": 200, "msg": "vocal Removal generated successfully.", "data": {"task_id": vendor_task_id}}
