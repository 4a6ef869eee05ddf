"""The asynchronous client that triggers share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from requests.utils import get_environ_proxies, select_proxy

from airflow_provider_vocalsep.api import answers
from airflow_provider_vocalsep.api.errors import AnswerLostError, VendorError, VendorUnreachableError
from airflow_provider_vocalsep.api.requests import ApiRequest, read_request
from airflow_provider_vocalsep.client.blocking import retry_after
from airflow_provider_vocalsep.client.pace import read_gate
from airflow_provider_vocalsep.client.settings import TIMEOUT, AccountSettings

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.models import SeparationTask

#: Concurrent reads of one account. A triggerer that starts with thousands of waiting tracks must not open
#: thousands of connections.
MAX_CONCURRENT_READS = 16


class AsyncVendorClient:
    """
    Asynchronous client of the vendor's API for one account. It repeats nothing: the poller decides that.
    """

    def __init__(self, settings: AccountSettings) -> None:
        self.settings = settings
        connect, answer = TIMEOUT
        self._session = aiohttp.ClientSession(
            headers=settings.headers,
            timeout=aiohttp.ClientTimeout(total=connect + answer, sock_connect=connect),
            connector=aiohttp.TCPConnector(limit=MAX_CONCURRENT_READS),
        )
        # Not trust_env=True, which also reads ~/.netrc: its credentials cannot be combined with our header.
        self._proxy = select_proxy(settings.base_url, get_environ_proxies(settings.base_url))
        self._read_slots = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._gate = read_gate(settings.base_url, settings.account, settings.read_rate)

    async def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        """
        Read the vendor's record of a task once.

        :return: The record; ``None`` while the vendor does not know the id.
        :raises VocalSepError: as :meth:`VendorClient.read_task` of the blocking client.
        """
        # Take the slot before aiohttp's clock starts: waiting for it must not count towards the time-out.
        async with self._read_slots:
            await self._gate.wait_async()
            try:
                task = await self._read(read_request(vendor_task_id))
            except VendorError as e:
                self._gate.refused(e)
                raise
            self._gate.accepted()
            return task

    async def close(self) -> None:
        """Close the HTTP session and its connections."""
        await self._session.close()

    async def _read(self, request: ApiRequest) -> SeparationTask | None:
        try:
            async with self._session.request(
                request.method,
                self.settings.url(request),
                params=request.params,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = await response.read()
        except aiohttp.ClientConnectorError as e:
            raise VendorUnreachableError(f"Could not connect to {self.settings.base_url}: {e}") from e
        except (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError) as e:
            raise AnswerLostError(f"No answer from {self.settings.base_url}: {e or type(e).__name__}") from e
        return answers.parse_record(
            response.status, body, self.settings.dialect, retry_after=retry_after(response.headers)
        )
