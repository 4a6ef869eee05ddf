"""
Faults of the vendor, injected on demand.

A fault has a place in the API and a kind, see docs/sandbox.md.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FaultPlace = Literal["submit", "read", "task", "callback", "download"]

KINDS: dict[str, tuple[str, ...]] = {
    "submit": ("accept_then_drop", "html", "truncated", "slow", "code", "http_429"),
    "read": ("html", "truncated", "slow", "null", "code", "http_429", "no_urls"),
    "task": ("stuck", "fail", "callback_exception", "callback_exception_without_urls"),
    "callback": ("none", "duplicate", "early", "late", "forged"),
    "download": ("html", "short", "empty", "redirect", "expired", "corrupt", "drop", "no_range"),
}


class Fault(BaseModel):
    """
    One fault.

    :param id: Id, for removing the fault.
    :param place: Part of the API that fails.
    :param kind: One of :data:`KINDS` of the place.
    :param times: Number of times it occurs; ``None`` for every time.
    :param skip: Number of times it does not occur before the first.
    :param track: Only for this track: its ``audio_id``, ``task_id``, address or vendor task id.
    :param stem: ``download``: only for this stem.
    :param code: ``code`` and ``fail``: the vendor's code.
    :param message: ``code`` and ``fail``: the vendor's message.
    :param status: ``html`` and ``expired``: HTTP status; ``fail``: ``successFlag`` of the task.
    :param refund: ``fail``: refund the credits.
    :param seconds: ``slow`` and ``late``: delay; ``http_429``: ``Retry-After``.
    :param after: ``drop`` and ``corrupt``: number of correct bytes before the fault.
    :param to: ``redirect``: target address.
    :param fired: Number of times it has occurred.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:8])
    place: FaultPlace
    kind: str
    times: int | None = None
    skip: int = 0
    track: str | None = None
    stem: str | None = None
    code: int = 500
    message: str | None = None
    status: int | str | None = None
    refund: bool = False
    seconds: float = 5.0
    after: int = 1000
    to: str = "http://127.0.0.1:1/private.mp3"
    fired: int = 0

    @model_validator(mode="after")
    def _validate_kind(self) -> Fault:
        if self.kind not in KINDS[self.place]:
            raise ValueError(
                f"{self.place} has no fault {self.kind!r}; write one of: {', '.join(KINDS[self.place])}"
            )
        return self

    def applies_to(self, track: dict[str, Any], stem: str | None) -> bool:
        """Return whether the fault applies to a track and a stem."""
        if self.stem is not None and self.stem != stem:
            return False
        names = (track.get(n) for n in ("audio_id", "task_id", "audio_url", "vendor_task_id", "source"))
        return self.track is None or self.track in names


class Faults:
    """The active faults, in the order in which they were added."""

    def __init__(self, faults: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._faults = [Fault.model_validate_json(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._faults.append(fault)

    def remove(self, fault_id: str | None = None) -> None:
        """Remove one fault, or all of them."""
        with self._lock:
            self._faults = [f for f in self._faults if fault_id is not None and f.id != fault_id]

    def all(self) -> list[dict[str, Any]]:
        """Return the active faults with the number of times that each has occurred."""
        with self._lock:
            return [fault.model_dump() for fault in self._faults]

    def take(
        self,
        place: FaultPlace,
        track: dict[str, Any],
        *,
        stem: str | None = None,
        kinds: tuple[str, ...] = (),
    ) -> Fault | None:
        """
        Return the fault that occurs now, if any, and count it.

        :param track: Row of the task, or the ids of the submit under the same names.
        :param stem: Stem of a download.
        :param kinds: Consider only faults of these kinds.
        """
        with self._lock:
            for fault in self._faults:
                if (
                    fault.place != place
                    or (kinds and fault.kind not in kinds)
                    or not fault.applies_to(track, stem)
                ):
                    continue
                if fault.times is not None and fault.fired >= fault.times:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.fired += 1
                return fault
        return None
