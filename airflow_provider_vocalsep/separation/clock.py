"""The clock that waits go by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SteadyClock:
    """
    The time since the epoch as it was at the start, plus what has passed since.

    Deadlines are wall-clock times, so that they mean the same on every host. While one process waits, though,
    a jump of its machine's clock must neither end the wait nor stop it for the length of the jump.

    :param wall: Epoch seconds, read once.
    :param steady: Seconds since any moment, which never jump.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> float:
        """Return the epoch seconds."""
        return self._ahead + self._steady()
