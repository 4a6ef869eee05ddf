"""
The vendor's window, shared by all threads of a process, and politely by all processes of an account.

Nothing tells the processes of each other but the vendor itself: each sends evenly spaced, stretches its spacing when it
is told "too fast", and shortens it again while it is not. So one process fills the window alone, and fifty share it.
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

#: Both vendors' documented window (docs.sunoapi.org and docs.kie.ai, "Rate limits": 20 requests every 10 seconds).
DEFAULT_SUBMIT_RATE = "20/10s"

#: No vendor documents one for status reads (docs.kie.ai: 3 a second for the same task), so this is ours: it spreads what a
#: triggerer that starts with thousands of waiting tracks would read at once, and is slowed by the vendor's own "too fast".
DEFAULT_READ_RATE = "500/10s"

#: Both vendors' code for maintenance: nobody is served, so nobody needs to ask for a while.
MAINTENANCE = 455

#: Seconds to leave a vendor under maintenance alone, at least.
MAINTENANCE_PAUSE = 30.0

#: A little slower than the window, so that the jitter of the network does not push one request too many into it.
_MARGIN = 1.01

#: An acceptance shortens the spacing by a share of itself, a refusal lengthens it by a share of its square root: who is
#: ahead of the others falls back, so that all get their part. Simulated: 2, 8 and 50 processes use 95 % of the window, with
#: a fifth, a third and half of their requests refused.
_SHRINK = 0.05
_STRETCH = 0.25

#: The spacing never stretches to more than this many times the vendor's own.
_MOST = 128.0


def parse_rate(text: str) -> tuple[int, float]:
    """
    Read a rate.

    :param text: ``20/10s``: requests, and the seconds of the window.
    :raises ValueError: it is not written so.
    """
    match = re.fullmatch(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*s?", text.strip())
    if match is None or not int(match[1]) or not float(match[2]):
        raise ValueError(f"write a rate as {DEFAULT_SUBMIT_RATE} (requests per seconds), not {text!r}")
    return int(match[1]), float(match[2])


class AdaptiveRate:
    """
    Decides when the next request may be sent. Without I/O and without a clock.

    :param requests: Requests that the vendor accepts in a window.
    :param seconds: Length of the window.
    :param uniform: Source of chance, a number between two.
    """

    def __init__(
        self, requests: int, seconds: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.spacing = self._shortest = seconds / requests * _MARGIN
        self._uniform = uniform
        self._next = float("-inf")

    def turn(self, now: float) -> float:
        """
        Take the next turn.

        :param now: The time, in seconds of any clock.
        :return: When to send.
        """
        at = max(now, self._next)
        self._next = at + self.spacing
        return at

    def accepted(self) -> None:
        """Send sooner again."""
        self.spacing = max(self._shortest, self.spacing * (1 - _SHRINK))

    def refused(self, now: float, *, pause: float = 0.0) -> None:
        """
        Send later.

        :param now: The time.
        :param pause: Seconds for which the vendor wants no request at all.
        """
        if not pause:
            longer = self.spacing + _STRETCH * math.sqrt(self._shortest * self.spacing)
            self.spacing = min(self._shortest * _MOST, longer)
        # Chance keeps processes that were turned away together from coming back together.
        self._next = max(self._next, now + pause + self._uniform(0, self.spacing))


class Gate:
    """
    Lets requests of several threads and coroutines through, one at a time, in the vendor's pace.

    :param pace: What decides.
    :param now: The clock.
    :param sleep: How to wait, in seconds.
    """

    def __init__(
        self,
        pace: AdaptiveRate,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.pace = pace
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._closed_until = float("-inf")

    def wait(self) -> None:
        """Wait for a turn, in a thread."""
        while True:
            self._sleep(self._until_turn())
            if self._is_open():
                return

    async def wait_async(self) -> None:
        """Wait for a turn, on an event loop."""
        while True:
            await asyncio.sleep(self._until_turn())
            if self._is_open():
                return

    def accepted(self) -> None:
        """Tell that the vendor took a request."""
        with self._lock:
            self.pace.accepted()

    def refused(self, error: VendorError) -> None:
        """
        Tell that the vendor turned a request away.

        :param error: Its answer. Only "too fast" and maintenance slow the pace.
        """
        if error.verdict is not Verdict.WAIT:
            return
        pause = max(error.retry_after or 0.0, MAINTENANCE_PAUSE if error.code == MAINTENANCE else 0.0)
        with self._lock:
            now = self._now()
            self.pace.refused(now, pause=pause)
            self._closed_until = max(self._closed_until, now + pause)

    def _until_turn(self) -> float:
        with self._lock:
            now = self._now()
            return max(0.0, self.pace.turn(now) - now)

    def _is_open(self) -> bool:
        # Closed since the turn was taken: that turn is void.
        return self._closed_until <= self._now()


_gates: dict[tuple[str, ...], Gate] = {}
_gates_lock = threading.Lock()


def submit_gate(base_url: str, account: str, rate: str) -> Gate:
    """
    Return this process's gate to the submits of an account; the same one for all threads.

    :param base_url: The vendor.
    :param account: The account.
    :param rate: Its submit window, as ``20/10s``.
    """
    return _gate("submit", base_url, account, rate)


def read_gate(base_url: str, account: str, rate: str) -> Gate:
    """
    Return this process's gate to the status reads of an account; the same one for all threads and event loops.

    :param base_url: The vendor.
    :param account: The account.
    :param rate: Reads in a window, as ``500/10s``.
    """
    return _gate("read", base_url, account, rate)


def _gate(*key: str) -> Gate:
    with _gates_lock:
        if key not in _gates:
            _gates[key] = Gate(AdaptiveRate(*parse_rate(key[-1])))
        return _gates[key]
