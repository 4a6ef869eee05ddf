"""What happens after a submit was accepted: separation, and the callback."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import requests

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.sandbox import contract
from airflow_provider_vocalsep.sandbox.engine.audio import NotAudioError
from airflow_provider_vocalsep.sandbox.songs import songs

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_provider_vocalsep.sandbox.books import Books
    from airflow_provider_vocalsep.sandbox.contract import Voice
    from airflow_provider_vocalsep.sandbox.engine.separate import Separator
    from airflow_provider_vocalsep.sandbox.faults import Faults
    from airflow_provider_vocalsep.sandbox.options import SandboxOptions

log = logging.getLogger(__name__)

#: Own files: at most 20 MB (docs.sunoapi.org, docs.kie.ai: ``audioUrl``), fetched within 30 s.
_MAX_SOURCE_BYTES = 20 * 1024 * 1024
_FETCH_SECONDS = 30

#: Hosts that clients write into the mandatory ``callBackUrl`` when they only poll.
_PLACEHOLDERS = (".invalid", ".placeholder", ".example", ".example.com", ".example.org")


class SourceUnavailableError(Exception):
    """An own file could not be fetched."""


class Worker:
    """
    Takes tasks to their end in the background.

    :param options: The sandbox's options.
    :param books: The accounts.
    :param faults: The switches.
    :param separator: The engine.
    :param voice: The vendor.
    """

    def __init__(
        self, options: SandboxOptions, books: Books, faults: Faults, separator: Separator, voice: Voice
    ) -> None:
        self.options = options
        self.books = books
        self.faults = faults
        self.separator = separator
        self.voice = voice
        self.base_url = ""
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="separation")
        self._running: set[asyncio.Task[object]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._ending = asyncio.Lock()
        self._next_end = 0.0

    def start(self, vendor_task_id: str) -> None:
        """Take a task up."""
        self._spawn(self._work(vendor_task_id))

    def call_back_now(self, vendor_task_id: str) -> None:
        """Deliver a success before the task is one, as a vendor does whose queue overtakes its own answer."""
        task = {**self._task(vendor_task_id), "status": "SUCCESS"}
        self._spawn(self._deliver(task, contract.callback(task, [], self.voice)))

    async def stop(self) -> None:
        """Drop what is under way; a restart with the same state takes it up again."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def links(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a task's stems with their addresses, in which the vendor leaves spaces as they are."""
        return [
            {**stem, "url": f"{self.base_url}/s/{stem['file_name']}"}
            for stem in self.books.stems(task["vendor_task_id"])
        ]

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def _task(self, vendor_task_id: str) -> dict[str, Any]:
        task = self.books.task(vendor_task_id)
        assert task is not None, vendor_task_id  # noqa: S101 - it was written before its work was started
        return task

    async def _work(self, vendor_task_id: str) -> None:
        task = self._task(vendor_task_id)
        fault = self.faults.strike("task", task)
        if fault is not None and fault.kind == "stuck":
            return
        failure: tuple[int, str] | None = None
        stems: list[dict[str, Any]] = []
        if fault is not None and fault.kind == "fail":
            failure = fault.code, fault.message or self.voice.failed[task["type"]]
        else:
            try:
                stems = await asyncio.get_running_loop().run_in_executor(self._pool, self._separate, task)
            except SourceUnavailableError as e:
                failure = 451, f"Failed to download the source audio: {e}"
            except NotAudioError:
                failure = self.voice.failure_code, "The source audio cannot be read."
            except Exception:
                log.exception("Separation of task %s failed", vendor_task_id)
                failure = 500, self.voice.failed[task["type"]]
        await asyncio.sleep(max(0.0, task["created_ms"] / 1000 + self.options.task_seconds - time.time()))
        await self._turn()
        if fault is not None and fault.kind == "callback_exception_without_urls":
            stems = []
        if failure is not None:
            status = str(fault.status or "GENERATE_AUDIO_FAILED") if fault else "GENERATE_AUDIO_FAILED"
            refund = (fault.refund if fault else False) or failure[0] == 531
            self.books.fail(vendor_task_id, status, *failure, refund=refund)
        else:
            self.books.finish(vendor_task_id, stems)
        log.info(
            "%s of %s: %s (task %s)",
            task["type"],
            task["source"],
            failure[1] if failure else f"{len(stems)} stems",
            vendor_task_id,
        )
        if fault is not None and fault.kind.startswith("callback_exception"):
            self.books.callback_gave_up(vendor_task_id)
            return
        task = self._task(vendor_task_id)
        await self._call_back(task, contract.callback(task, self.links(task), self.voice))

    async def _turn(self) -> None:
        """Wait until the next task may end, where only so many end per second."""
        if not self.options.finish_rate:
            return
        async with self._ending:
            await asyncio.sleep(max(0.0, self._next_end - time.monotonic()))
            self._next_end = max(self._next_end, time.monotonic()) + 1 / self.options.finish_rate

    def _separate(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        source = self._source(task)
        files, seconds = self.separator.separate(source, SeparationType(task["type"]), task["stem_name"])
        advanced = task["type"] == SeparationType.SPLIT_STEM_ADVANCED.value
        stems = []
        for name, path in files.items():
            stem_id = str(uuid.uuid4())
            group = task["stem_name"] if advanced else contract.group_of(name)
            stems.append(
                {
                    "name": name,
                    "stem_id": stem_id,
                    "file_name": contract.stem_file(stem_id, group),
                    "path": str(path),
                    "duration": seconds,
                }
            )
        return stems

    def _source(self, task: dict[str, Any]) -> bytes:
        if task["audio_url"]:
            return _fetch(task["audio_url"])
        # With tiny stems any pair of ids is a track, so that catalogues of any size can be tried.
        song = next((s for s in songs() if s.audio_id == task["audio_id"]), songs()[0])
        return song.file

    async def _call_back(self, task: dict[str, Any], body: dict[str, Any]) -> None:
        fault = self.faults.strike("callback", task, kinds=("none", "duplicate", "late", "forged"))
        kind = fault.kind if fault else None
        if kind == "none":
            return
        if fault is not None and kind == "late":
            await asyncio.sleep(fault.seconds)
        if kind == "forged":
            for value in (body["data"] or {}).values():
                if isinstance(value, dict):
                    value |= {
                        key: "https://attacker.example/stolen.mp3" for key in value if key.endswith("_url")
                    }
        if not await self._deliver(task, body):
            self.books.callback_gave_up(task["vendor_task_id"])
        if kind == "duplicate":
            await self._deliver(task, body)

    async def _deliver(self, task: dict[str, Any], body: dict[str, Any]) -> bool:
        """Post a callback until it is answered with 200 or the tries are used up."""
        url, vendor_task_id = task["callback_url"], task["vendor_task_id"]
        if f".{urlsplit(url).hostname}".endswith(_PLACEHOLDERS):
            self.books.wrote_callback(vendor_task_id, 0, url, None, "not attempted")
            return True
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.options.callback_timeout)
            self._session = aiohttp.ClientSession(timeout=timeout)
        for attempt in range(1 + self.options.callback_retries):
            if attempt:
                await asyncio.sleep(self.options.callback_backoff * 2 ** (attempt - 1))
            headers = {}
            if self.options.webhook_hmac_key:
                headers = contract.signature_headers(
                    self.options.webhook_hmac_key, vendor_task_id, int(time.time())
                )
            status, outcome = None, "accepted"
            try:
                async with self._session.post(
                    url, json=body, headers=headers, allow_redirects=False
                ) as response:
                    status = response.status
                    outcome = "accepted" if status == 200 else "refused"
            except (aiohttp.ClientError, asyncio.TimeoutError) as e:
                outcome = type(e).__name__
            self.books.wrote_callback(vendor_task_id, attempt + 1, url, status, outcome)
            if outcome == "accepted":
                return True
        return False


def _fetch(url: str) -> bytes:
    deadline = time.monotonic() + _FETCH_SECONDS
    try:
        with requests.get(url, stream=True, timeout=_FETCH_SECONDS) as response:
            response.raise_for_status()
            data = bytearray()
            for block in response.iter_content(1 << 16):
                data += block
                if len(data) > _MAX_SOURCE_BYTES:
                    raise SourceUnavailableError("the file is larger than 20 MB")
                if time.monotonic() > deadline:
                    raise SourceUnavailableError(f"it took longer than {_FETCH_SECONDS} s")
            return bytes(data)
    except requests.RequestException as e:
        raise SourceUnavailableError(str(e)) from e
