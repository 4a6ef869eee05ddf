from __future__ import annotations

import asyncio
import socket
import time

import pytest

from airflow_provider_vocalsep.api.dialects import get_dialect
from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    UnreadableAnswerError,
    VendorError,
    VendorUnreachableError,
)
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.client import shared
from airflow_provider_vocalsep.client.asynchronous import MAX_CONCURRENT_READS, AsyncVendorClient
from airflow_provider_vocalsep.client.settings import AccountSettings
from airflow_provider_vocalsep.client.shared import close_shared_clients, shared_client

READ = "/api/v1/vocal-removal/record-info"
PENDING = {
    "code": 200,
    "msg": "success",
    "data": {"taskId": "T1", "successFlag": "PENDING", "response": None},
}


def settings_of(base_url: str, key: str = "the-key", read_rate: str = "10000/1s") -> AccountSettings:
    return AccountSettings(key, get_dialect("sunoapi"), base_url.rstrip("/"), "sunoapi", read_rate=read_rate)


async def read(base_url: str, vendor_task_id: str = "T1"):
    client = AsyncVendorClient(settings_of(base_url))
    try:
        return await client.read_task(vendor_task_id)
    finally:
        await client.close()


@pytest.mark.asyncio
class TestReadTask:
    async def test_reads_a_record_with_the_key(self, httpserver):
        httpserver.expect_request(
            READ, query_string={"taskId": "T1"}, headers={"Authorization": "Bearer the-key"}
        ).respond_with_json(PENDING)
        assert (await read(httpserver.url_for("/"))).status is TaskStatus.PENDING

    async def test_repeats_nothing_by_itself(self, httpserver):
        httpserver.expect_request(READ).respond_with_data("<html>", status=200)
        with pytest.raises(UnreadableAnswerError):
            await read(httpserver.url_for("/"))
        assert len(httpserver.log) == 1

    async def test_hands_on_how_long_the_vendor_wants_to_be_left_alone(self, httpserver):
        httpserver.expect_request(READ).respond_with_data("", status=429, headers={"Retry-After": "17"})
        with pytest.raises(VendorError) as e:
            await read(httpserver.url_for("/"))
        assert e.value.retry_after == 17

    async def test_tells_no_connection_from_no_answer(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with pytest.raises(VendorUnreachableError):
            await read(f"http://127.0.0.1:{port}")
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            with pytest.raises(AnswerLostError):
                await read(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def test_by_the_hundred_opens_a_bounded_number_of_connections(self):
        open_now = most = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.01)
            body = b'{"code":200,"data":null}'
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
            writer.close()
            open_now -= 1

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            client = AsyncVendorClient(settings_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
            answers = await asyncio.gather(*(client.read_task(f"T{n}") for n in range(200)))
            await client.close()
        assert answers == [None] * 200
        assert 1 < most <= MAX_CONCURRENT_READS

    async def test_spreads_reads_of_an_account_whichever_client_makes_them(self, httpserver):
        httpserver.expect_request("/api/v1/vocal-removal/record-info").respond_with_json(
            {"code": 200, "data": None}
        )
        clients = [
            AsyncVendorClient(settings_of(httpserver.url_for(""), read_rate="20/1s")) for _ in range(2)
        ]
        began = time.monotonic()
        await asyncio.gather(*(client.read_task("T") for client in clients for _ in range(5)))
        assert time.monotonic() - began >= 0.45
        for client in clients:
            await client.close()


@pytest.mark.asyncio
class TestSharedClient:
    @pytest.fixture
    def resolve(self):
        calls = []

        async def resolve() -> AccountSettings:
            calls.append(1)
            await asyncio.sleep(0)
            return settings_of("http://vendor.invalid", key=resolve.key)

        resolve.key, resolve.calls = "old", calls
        return resolve

    async def test_is_one_for_hundreds_of_triggers_that_start_at_once(self, resolve):
        clients = await asyncio.gather(*(shared_client("c", resolve) for _ in range(300)))
        assert len(set(map(id, clients))) == 1
        assert len(resolve.calls) == 1
        await close_shared_clients()

    async def test_is_another_for_another_connection(self, resolve):
        assert await shared_client("c", resolve) is not await shared_client("d", resolve)
        await close_shared_clients()

    async def test_takes_up_a_rotated_key_after_a_while(self, resolve, monkeypatch):
        first = await shared_client("c", resolve)
        monkeypatch.setattr(shared, "RESOLVED_FOR", -1)
        assert await shared_client("c", resolve) is first
        resolve.key = "new"
        second = await shared_client("c", resolve)
        assert second.settings.api_key == "new"
        await first.close()
        await close_shared_clients()

    async def test_that_cannot_be_resolved_is_tried_again_by_the_next(self, resolve):
        async def fails() -> AccountSettings:
            raise RuntimeError("the supervisor is busy")

        with pytest.raises(RuntimeError):
            await shared_client("c", fails)
        assert (await shared_client("c", resolve)).settings.api_key == "old"
        await close_shared_clients()
