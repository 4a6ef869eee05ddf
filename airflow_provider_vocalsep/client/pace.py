"""
Keep to the vendor's rate limit across threads, and share it fairly between the processes of an account.

The processes do not know of each other. Each spaces its requests evenly, widens the spacing when the vendor
answers "too fast", and narrows it again with each accepted request. So one process uses the whole window, and
fifty processes share it.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VendorError, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

#: Both vendors' documented limit (docs.sunoapi.org and docs.kie.ai, "Rate limits": 20 requests every
#: 10 seconds).
DEFAULT_SUBMIT_RATE = "20/10s"

#: Our own limit: no vendor documents one for all status reads (docs.kie.ai: 3 a second for the same task). It
#: spreads the first reads of a triggerer that starts with thousands of waiting tracks.
DEFAULT_READ_RATE = "500/10s"

#: Both vendors' code for maintenance.
MAINTENANCE = 455

#: Least seconds without any request to a vendor under maintenance.
MAINTENANCE_PAUSE = 30.0

#: Factor on the spacing: a little slower than the limit, so that network jitter does not exceed it.
_MARGIN = 1.01

#: An accepted request narrows the spacing in proportion to it, a refused one widens it by its square root. So
#: the fastest process slows down most, and all get a share. Simulated: 2, 8 and 50 processes use 95 % of the
#: window, with a fifth, a third and half of their requests refused.
_NARROW = 0.05
_WIDEN = 0.25

#: Widest spacing, as a multiple of the vendor's own.
_WIDEST = 128.0


def parse_rate(text: str) -> tuple[int, float]:
    """
    Parse a rate such as ``20/10s``.

    :return: Requests, and seconds of the window.
    :raises ValueError: ``text`` is not a rate.
    """
    match = re.fullmatch(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*s?", text.strip())
    if match is None or not int(match[1]) or not float(match[2]):
        raise ValueError(
            f"write a rate as {DEFAULT_SUBMIT_RATE} (20 requests every 10 seconds), not {text!r}"
        )
    return int(match[1]), float(match[2])


class AdaptiveRate:
    """
    Compute when the next request may be sent. Has no clock and does not sleep.

    :param requests: Requests that the vendor accepts in a window.
    :param seconds: Length of the window.
    :param uniform: Return a random number between two.
    """

    def __init__(
        self, requests: int, seconds: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.spacing = self._narrowest = seconds / requests * _MARGIN
        self._uniform = uniform
        self._next = float("-inf")

    def take_turn(self, now: float) -> float:
        """
        Reserve the next turn.

        :param now: The time, in seconds of any clock.
        :return: When to send, on the same clock.
        """
        at = max(now, self._next)
        self._next = at + self.spacing
        return at

    def accepted(self) -> None:
        """Narrow the spacing after an accepted request."""
        self.spacing = max(self._narrowest, self.spacing * (1 - _NARROW))

    def refused(self, now: float, *, pause: float = 0.0) -> None:
        """
        Widen the spacing after a refused request, or pause.

        :param now: The time, in seconds of the clock of :meth:`take_turn`.
        :param pause: Seconds for which the vendor wants no request at all.
        """
        if not pause:
            wider = self.spacing + _WIDEN * math.sqrt(self._narrowest * self.spacing)
            self.spacing = min(self._narrowest * _WIDEST, wider)
        # Random, so that processes that were refused together do not return together.
        self._next = max(self._next, now + pause + self._uniform(0, self.spacing))


class Gate:
    """
    Make the threads and coroutines of a process wait for their turn to send a request.

    :param rate: Computes the turns.
    :param now: The clock, in seconds.
    :param sleep: Block for some seconds.
    """

    def __init__(
        self,
        rate: AdaptiveRate,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._closed_until = float("-inf")

    def wait(self, sleep: Callable[[float], None] | None = None) -> None:
        """
        Block the thread until its turn.

        :param sleep: Blocks for some seconds, or raises where the thread is to stop.
        """
        while True:
            (sleep or self._sleep)(self._take_turn())
            if self._is_open():
                return

    async def wait_async(self) -> None:
        """Suspend the coroutine until its turn."""
        while True:
            await asyncio.sleep(self._take_turn())
            if self._is_open():
                return

    def accepted(self) -> None:
        """Speed up after the vendor accepted a request."""
        with self._lock:
            self.rate.accepted()

    def refused(self, error: VendorError) -> None:
        """
        Slow down, or pause, after the vendor refused a request.

        :param error: The refusal. Only "too fast" and maintenance have an effect.
        """
        if error.verdict is not Verdict.WAIT:
            return
        pause = max(error.retry_after or 0.0, MAINTENANCE_PAUSE if error.code == MAINTENANCE else 0.0)
        with self._lock:
            now = self._now()
            self.rate.refused(now, pause=pause)
            self._closed_until = max(self._closed_until, now + pause)

    def _take_turn(self) -> float:
        """Reserve a turn; return the seconds until then."""
        with self._lock:
            now = self._now()
            return max(0.0, self.rate.take_turn(now) - now)

    def _is_open(self) -> bool:
        # A pause that began after the turn was reserved voids that turn.
        return self._closed_until <= self._now()


_gates: dict[tuple[str, ...], Gate] = {}
_gates_lock = threading.Lock()


def submit_gate(base_url: str, account: str, rate: str) -> Gate:
    """
    Return the gate of an account's submits. All threads of the process share it.

    :param rate: Submits in a window, as ``20/10s``.
    """
    return _get_gate("submit", base_url, account, rate)


def read_gate(base_url: str, account: str, rate: str) -> Gate:
    """
    Return the gate of an account's status reads. All threads and event loops of the process share it.

    :param rate: Reads in a window, as ``500/10s``.
    """
    return _get_gate("read", base_url, account, rate)


def _get_gate(*key: str) -> Gate:
    with _gates_lock:
        if key not in _gates:
            _gates[key] = Gate(AdaptiveRate(*parse_rate(key[-1])))
        return _gates[key]
