"""Processes accepted tasks in the background: separates, and calls back."""

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
    from airflow_provider_vocalsep.sandbox.contract import Wording
    from airflow_provider_vocalsep.sandbox.engine.separate import Separator
    from airflow_provider_vocalsep.sandbox.faults import Faults
    from airflow_provider_vocalsep.sandbox.options import SandboxOptions

log = logging.getLogger(__name__)

#: Limits of own files: 20 MB (docs.sunoapi.org, docs.kie.ai: ``audioUrl``), and 30 s to fetch them.
_MAX_SOURCE_BYTES = 20 * 1024 * 1024
_FETCH_SECONDS = 30

#: Host names of placeholders that polling clients use, because ``callBackUrl`` is mandatory.
_PLACEHOLDERS = (".invalid", ".placeholder", ".example", ".example.com", ".example.org")


class SourceUnavailableError(Exception):
    """An own file could not be fetched."""


class Worker:
    """
    Separates the audio of tasks and calls back.

    :param wording: Wording of the callbacks.
    """

    def __init__(
        self, options: SandboxOptions, books: Books, faults: Faults, separator: Separator, wording: Wording
    ) -> None:
        self.options = options
        self.books = books
        self.faults = faults
        self.separator = separator
        self.wording = wording
        self.base_url = ""
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="separation")
        self._running: set[asyncio.Task[object]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._finish_lock = asyncio.Lock()
        self._next_finish = 0.0

    def start(self, vendor_task_id: str) -> None:
        """Start to process a task."""
        self._spawn(self._process(vendor_task_id))

    async def call_back_early(self, vendor_task_id: str) -> None:
        """Deliver a callback about a success before the submit is answered, and wait for at most 0.2 s."""
        task = {**self._task(vendor_task_id), "status": "SUCCESS"}
        delivery = self._spawn(self._deliver(task, contract.build_callback(task, [], self.wording)))
        await asyncio.wait([delivery], timeout=0.2)

    async def stop(self) -> None:
        """Cancel all tasks in progress; a restart with the same books continues them."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def links(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the stems of a task with their links, in which the vendor does not encode spaces."""
        return [
            {**stem, "url": f"{self.base_url}/s/{stem['file_name']}"}
            for stem in self.books.stems(task["vendor_task_id"])
        ]

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        running = asyncio.get_running_loop().create_task(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    def _task(self, vendor_task_id: str) -> dict[str, Any]:
        task = self.books.task(vendor_task_id)
        assert task is not None, vendor_task_id  # noqa: S101 - recorded before it is processed
        return task

    async def _process(self, vendor_task_id: str) -> None:
        task = self._task(vendor_task_id)
        fault = self.faults.take("task", task)
        if fault is not None and fault.kind == "stuck":
            return
        failure: tuple[int, str] | None = None
        stems: list[dict[str, Any]] = []
        if fault is not None and fault.kind == "fail":
            failure = fault.code, fault.message or self.wording.failure_messages[task["type"]]
        else:
            try:
                stems = await asyncio.get_running_loop().run_in_executor(self._pool, self._separate, task)
            except SourceUnavailableError as e:
                failure = 451, f"Failed to download the source audio: {e}"
            except NotAudioError:
                failure = self.wording.failure_code, "The source audio cannot be read."
            except Exception:
                log.exception("Separation of task %s failed", vendor_task_id)
                failure = 500, self.wording.failure_messages[task["type"]]
        await asyncio.sleep(max(0.0, task["created_ms"] / 1000 + self.options.task_seconds - time.time()))
        await self._wait_for_finish_rate()
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
            self.books.record_callback_failed(vendor_task_id)
            return
        task = self._task(vendor_task_id)
        await self._call_back(task, contract.build_callback(task, self.links(task), self.wording))

    async def _wait_for_finish_rate(self) -> None:
        """Wait until ``finish_rate`` allows the next task to end."""
        if not self.options.finish_rate:
            return
        async with self._finish_lock:
            await asyncio.sleep(max(0.0, self._next_finish - time.monotonic()))
            self._next_finish = max(self._next_finish, time.monotonic()) + 1 / self.options.finish_rate

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
        # With tiny stems, every pair of ids is a track, so that catalogues can have any size.
        song = next((s for s in songs() if s.audio_id == task["audio_id"]), songs()[0])
        return song.file

    async def _call_back(self, task: dict[str, Any], body: dict[str, Any]) -> None:
        fault = self.faults.take("callback", task, kinds=("none", "duplicate", "late", "forged"))
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
            self.books.record_callback_failed(task["vendor_task_id"])
        if kind == "duplicate":
            await self._deliver(task, body)

    async def _deliver(self, task: dict[str, Any], body: dict[str, Any]) -> bool:
        """Post a callback until it is answered with 200; return whether it was, within the retries."""
        url, vendor_task_id = task["callback_url"], task["vendor_task_id"]
        if f".{urlsplit(url).hostname}".endswith(_PLACEHOLDERS):
            self.books.record_callback(vendor_task_id, 0, url, None, "not attempted")
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
            self.books.record_callback(vendor_task_id, attempt + 1, url, status, outcome)
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
