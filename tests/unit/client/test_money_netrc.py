"""M15: the vendor gets the connection's key, whatever a .netrc on the worker says."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_vocalsep.client.asynchronous import AsyncVendorClient
from airflow_provider_vocalsep.client.blocking import VendorClient
from airflow_provider_vocalsep.client.settings import AccountSettings
from tests.support.vendor_http import PENDING_RECORD, RECORD_PATH


def settings_of(host: str) -> AccountSettings:
    return AccountSettings.build("c", password="the-key", host=host.rstrip("/"))


def read(settings: AccountSettings) -> None:
    client = VendorClient(settings)
    client.read_task("T1")
    client.close()


async def read_async(settings: AccountSettings) -> None:
    client = AsyncVendorClient(settings)
    try:
        await client.read_task("T1")
    finally:
        await client.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def read_task(request):
    return read if request.param == "blocking" else lambda settings: asyncio.run(read_async(settings))


class TestReadTask:
    def test_netrc_with_a_default_does_not_replace_the_key(
        self, httpserver, read_task, tmp_path, monkeypatch
    ):
        netrc = tmp_path / "netrc"
        netrc.write_text("default login someone password elsewhere\n")
        monkeypatch.setenv("NETRC", str(netrc))
        httpserver.expect_request(RECORD_PATH).respond_with_json(PENDING_RECORD)

        read_task(settings_of(httpserver.url_for("")))

        assert httpserver.log[0][0].headers["Authorization"] == "Bearer the-key"

    def test_proxy_of_the_environment_is_used(self, httpserver, read_task, monkeypatch):  # M15, kept
        monkeypatch.setenv("HTTP_PROXY", httpserver.url_for("").rstrip("/"))
        monkeypatch.setenv("http_proxy", httpserver.url_for("").rstrip("/"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        httpserver.expect_request(RECORD_PATH).respond_with_json(PENDING_RECORD)

        read_task(settings_of("http://vendor.invalid"))

        assert len(httpserver.log) == 1
