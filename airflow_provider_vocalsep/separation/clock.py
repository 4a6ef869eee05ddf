"""The clock of a wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SteadyClock:
    """
    Epoch seconds that do not jump: the wall clock is read once, a monotonic clock counts from there.

    Deadlines are wall-clock times, valid on every host. A jump of one host's clock must neither end a wait
    there nor extend it.

    :param wall: The wall clock, in epoch seconds.
    :param steady: The monotonic clock, in seconds.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> float:
        """Return the epoch seconds."""
        return self._ahead + self._steady()
