"""The vendor behind the API: accepts or refuses submits, and returns records."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.sandbox import contract
from airflow_provider_vocalsep.sandbox.books import Books, now_ms
from airflow_provider_vocalsep.sandbox.engine.separate import Separator
from airflow_provider_vocalsep.sandbox.faults import Faults
from airflow_provider_vocalsep.sandbox.options import PRICES, SandboxOptions
from airflow_provider_vocalsep.sandbox.songs import songs
from airflow_provider_vocalsep.sandbox.worker import Worker

if TYPE_CHECKING:
    from fastapi import Request

#: Fields of a submit; all are strings.
_FIELDS = ("taskId", "audioId", "audioUrl", "type", "stemName", "callBackUrl")
#: A stem name of the vendor ("Lead Vocal", "Hi-Hat", "R&B Keys"), which becomes part of a file name.
_STEM_NAME = re.compile(r"[\w][\w &'.+-]{0,63}")


class Vendor:
    """The state behind the API."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.wording = contract.WORDINGS[options.dialect]
        self.rate = options.rate
        self.books = Books(options.state_dir, options.credits)
        self.faults = Faults(options.faults)
        self.separator = Separator(options.cache_dir, options.engine, tiny=options.tiny_stems)
        self.worker = Worker(options, self.books, self.faults, self.separator, self.wording)
        self._accepted: deque[float] = deque()

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Accept or refuse a submit, and return the body of the answer."""
        body.setdefault("type", SeparationType.SEPARATE_VOCAL.value)
        problem = _find_invalid_field(body) or self._find_unknown_track(body)
        if problem is None and self._exceeds_rate():
            problem = self.wording.too_fast
        if problem is None:
            vendor_task_id = self.books.accept(body, PRICES[body["type"]])
            if vendor_task_id is not None:
                self._accepted.append(time.monotonic())
                return contract.success({"taskId": vendor_task_id})
            problem = self.wording.no_credits
        self.books.record_refusal(problem[0], body)
        return contract.error(*problem)

    def record(self, vendor_task_id: str) -> Any:
        """Return the record of a task; ``None`` for a task that is unknown or not yet visible."""
        task = self.books.task(vendor_task_id)
        if task is None:
            return None
        self.books.record_poll(vendor_task_id)
        if now_ms() < task["created_ms"] + self.options.visible_after * 1000:
            return None
        return contract.build_record(task, self.worker.links(task), self.wording)

    def is_authorized(self, request: Request) -> bool:
        """Return whether a request has the API key and, for a POST to kie, a JSON content type."""
        if request.headers.get("authorization") != f"Bearer {self.options.api_key}":
            return False
        kind = request.headers.get("content-type", "")
        return request.method == "GET" or self.options.dialect != "kie" or kind.startswith("application/json")

    def _find_unknown_track(self, body: dict[str, Any]) -> tuple[int, str] | None:
        pair = body.get("taskId"), body.get("audioId")
        if body.get("audioUrl") or (self.options.tiny_stems and all(pair)):
            return None
        known = any((song.task_id, song.audio_id) == pair for song in songs())
        return None if known else (422, "Record does not exist")

    def _exceeds_rate(self) -> bool:
        submits, seconds = self.rate
        while self._accepted and time.monotonic() - self._accepted[0] > seconds:
            self._accepted.popleft()
        return len(self._accepted) >= submits


def _find_invalid_field(body: dict[str, Any]) -> tuple[int, str] | None:
    for name in _FIELDS:
        if not isinstance(body.get(name), (str, type(None))):
            return 422, f"{name} is invalid"
    if not body.get("callBackUrl"):
        return 422, "Please enter callBackUrl."
    if not re.match(r"https?://[^/\s]+", body["callBackUrl"]):
        return 422, "callBackUrl is invalid"
    if body["type"] not in PRICES:
        return 422, "type is invalid"
    if body["type"] == SeparationType.SPLIT_STEM_ADVANCED.value:
        if not body.get("stemName"):
            return 422, "Please enter stemName."
        if not _STEM_NAME.fullmatch(body["stemName"]):
            return 422, "stemName is invalid"
    if body.get("audioUrl") and (body.get("taskId") or body.get("audioId")):
        return 422, "audioUrl cannot be used with taskId and audioId"
    return None
