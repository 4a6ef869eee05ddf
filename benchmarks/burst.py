"""A burst of callbacks from many connections, and what the database holds of it afterwards."""

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
class Shot:
    """
    One delivery.

    :param url: Where it is posted.
    :param body: What is posted.
    :param status: The answer that is right.
    """

    url: str
    body: dict[str, Any]
    status: int


@dataclass(frozen=True)
class Fired:
    """
    What a burst gave.

    :param seconds: How long it took, whole.
    :param latencies: Seconds of each answer, sorted.
    :param wrong: Answers that were not the right ones, by status.
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

    :param base_url: The API server.
    :param task_instances: Those that they are for, as claims whose attempt does not matter.
    :param secret: What signs the addresses.
    :param deliveries: How many.
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
        good = [Shot(address + mint(c, secret), _body(c.attempt_id), 200) for c in claims]
        forged = [
            Shot(address + mint(c, "not-the-secret-of-the-connection"), _body(c.attempt_id), 401)
            for c in claims[: deliveries - self.valid - self.duplicates]
        ]
        self.shots = [*good, *good[: self.duplicates], *forged]
        random.Random(1).shuffle(self.shots)

    def remembered(self, database: str) -> dict[str, int]:
        """Count how often each attempt of the burst is remembered: deliveries, all of the one vendor task."""
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT key, value FROM task_state_store WHERE key LIKE 'vocalsep-callback-%%'")
            rows = cursor.fetchall()
        connection.close()
        keys = {inbox_key(attempt): attempt for attempt in self.attempts}
        counts: dict[str, int] = {}
        for key, value in rows:
            if key in keys:
                (heard,) = json.loads(value)
                assert keys[key] not in counts, "remembered twice"
                assert heard["vendor_task_id"] == keys[key]
                counts[keys[key]] = heard["count"]
        return counts


def fire(shots: list[Shot], connections: int) -> Fired:
    """Post them from so many connections at the same time."""
    return asyncio.run(_fire(shots, connections))


async def _fire(shots: list[Shot], connections: int) -> Fired:
    latencies: list[float] = []
    wrong: dict[int, int] = {}
    left = iter(shots)

    async def gun(session: aiohttp.ClientSession) -> None:
        for shot in left:
            began = time.perf_counter()
            async with session.post(shot.url, json=shot.body) as answer:
                await answer.read()
            latencies.append(time.perf_counter() - began)
            if answer.status != shot.status:
                wrong[answer.status] = wrong.get(answer.status, 0) + 1

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(gun(session) for _ in range(connections)))
        seconds = time.perf_counter() - began
    return Fired(seconds, sorted(latencies), wrong)


def _body(vendor_task_id: str) -> dict[str, Any]:
    return {"code": 200, "msg": "vocal Removal generated successfully.", "data": {"task_id": vendor_task_id}}
