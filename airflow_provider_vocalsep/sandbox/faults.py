"""
Faults: everything that goes wrong with the vendor, on demand.

A fault names a place (``submit``, ``read``, ``task``, ``callback``, ``download``) and a kind; see ``docs/sandbox.md``.
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
    One switch.

    :param id: Its name, for switching it off.
    :param place: Where it strikes.
    :param kind: What happens.
    :param times: How often, from now; for ever without.
    :param skip: How many chances to let pass before.
    :param track: Only for this track: its ``audio_id``, ``task_id``, address, or the vendor task id.
    :param stem: ``download``: only for this stem.
    :param code: ``code`` and ``fail``: the vendor's code.
    :param message: ``code`` and ``fail``: the vendor's words.
    :param status: ``html``: the HTTP status; ``fail``: the task's ``successFlag``; ``expired``: the HTTP status.
    :param refund: ``fail``: give the credits back.
    :param seconds: ``slow`` and ``late``: how long.
    :param after: ``drop`` and ``corrupt``: how many bytes are right before it happens.
    :param to: ``redirect``: where to.
    :param fired: How often it has struck.
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
    def _known(self) -> Fault:
        if self.kind not in KINDS[self.place]:
            raise ValueError(
                f"{self.place} has no fault {self.kind!r}; write one of: {', '.join(KINDS[self.place])}"
            )
        return self

    def concerns(self, track: dict[str, Any], stem: str | None) -> bool:
        """Tell whether it is meant for a track and a stem."""
        if self.stem is not None and self.stem != stem:
            return False
        names = (track.get(n) for n in ("audio_id", "task_id", "audio_url", "vendor_task_id", "source"))
        return self.track is None or self.track in names


class Faults:
    """The switches that are on."""

    def __init__(self, faults: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._faults = [Fault.model_validate_json(fault) for fault in faults]

    def switch_on(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._faults.append(fault)

    def switch_off(self, fault_id: str | None = None) -> None:
        """Remove a fault, or all of them."""
        with self._lock:
            self._faults = [f for f in self._faults if fault_id is not None and f.id != fault_id]

    def all(self) -> list[dict[str, Any]]:
        """Return the switches and how often each has struck."""
        with self._lock:
            return [fault.model_dump() for fault in self._faults]

    def strike(
        self,
        place: FaultPlace,
        track: dict[str, Any],
        *,
        stem: str | None = None,
        kinds: tuple[str, ...] = (),
    ) -> Fault | None:
        """
        Return the fault that happens now, if any, and count it.

        :param place: Where we are.
        :param track: The task's row, or the submit's ids under the same names.
        :param stem: The stem, at a download.
        :param kinds: Only these kinds.
        """
        with self._lock:
            for fault in self._faults:
                if (
                    fault.place != place
                    or (kinds and fault.kind not in kinds)
                    or not fault.concerns(track, stem)
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
