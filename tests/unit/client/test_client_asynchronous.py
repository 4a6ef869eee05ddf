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
from tests.support.vendor_http import PENDING_RECORD, RECORD_PATH


def account_settings(base_url: str, key: str = "the-key", read_rate: str = "10000/1s") -> AccountSettings:
    return AccountSettings(key, get_dialect("sunoapi"), base_url.rstrip("/"), "sunoapi", read_rate=read_rate)


async def read(base_url: str, vendor_task_id: str = "T1"):
    client = AsyncVendorClient(account_settings(base_url))
    try:
        return await client.read_task(vendor_task_id)
    finally:
        await client.close()


@pytest.mark.asyncio
class TestReadTask:
    async def test_record_is_read_with_the_api_key(self, httpserver):
        httpserver.expect_request(
            RECORD_PATH, query_string={"taskId": "T1"}, headers={"Authorization": "Bearer the-key"}
        ).respond_with_json(PENDING_RECORD)

        assert (await read(httpserver.url_for("/"))).status is TaskStatus.PENDING

    async def test_failed_read_is_not_repeated(self, httpserver):
        httpserver.expect_request(RECORD_PATH).respond_with_data("<html>", status=200)

        with pytest.raises(UnreadableAnswerError):
            await read(httpserver.url_for("/"))
        assert len(httpserver.log) == 1

    async def test_error_has_the_retry_after_of_the_vendor(self, httpserver):
        httpserver.expect_request(RECORD_PATH).respond_with_data(
            "", status=429, headers={"Retry-After": "17"}
        )

        with pytest.raises(VendorError) as e:
            await read(httpserver.url_for("/"))
        assert e.value.retry_after == 17

    async def test_refused_connection_differs_from_a_lost_answer(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]

        with pytest.raises(VendorUnreachableError):
            await read(f"http://127.0.0.1:{port}")

        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            with pytest.raises(AnswerLostError):
                await read(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def test_hundreds_of_reads_open_a_bounded_number_of_connections(self):
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
            client = AsyncVendorClient(
                account_settings(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            )
            answers = await asyncio.gather(*(client.read_task(f"T{n}") for n in range(200)))
            await client.close()

        assert answers == [None] * 200
        assert 1 < most <= MAX_CONCURRENT_READS

    async def test_clients_of_one_account_share_the_read_rate(self, httpserver):
        httpserver.expect_request(RECORD_PATH).respond_with_json({"code": 200, "data": None})
        clients = [
            AsyncVendorClient(account_settings(httpserver.url_for(""), read_rate="20/0.4s")) for _ in range(2)
        ]
        began = time.monotonic()
        await asyncio.gather(*(client.read_task("T") for client in clients for _ in range(5)))

        assert time.monotonic() - began >= 0.18

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
            return account_settings("http://vendor.invalid", key=resolve.key)

        resolve.key, resolve.calls = "old", calls
        return resolve

    async def test_hundreds_of_triggers_that_start_together_share_one_client(self, resolve):
        clients = await asyncio.gather(*(shared_client("c", resolve) for _ in range(300)))

        assert len(set(map(id, clients))) == 1
        assert len(resolve.calls) == 1

        await close_shared_clients()

    async def test_each_connection_has_its_own_client(self, resolve):
        assert await shared_client("c", resolve) is not await shared_client("d", resolve)

        await close_shared_clients()

    async def test_rotated_key_takes_effect_after_a_while(self, resolve, monkeypatch):
        first = await shared_client("c", resolve)
        monkeypatch.setattr(shared, "RESOLVED_FOR", -1)

        assert await shared_client("c", resolve) is first

        resolve.key = "new"
        second = await shared_client("c", resolve)
        assert second.settings.api_key == "new"

        await first.close()
        await close_shared_clients()

    async def test_failed_resolution_is_repeated_by_the_next_call(self, resolve):
        async def fails() -> AccountSettings:
            raise RuntimeError("the supervisor is busy")

        with pytest.raises(RuntimeError):
            await shared_client("c", fails)
        assert (await shared_client("c", resolve)).settings.api_key == "old"

        await close_shared_clients()
