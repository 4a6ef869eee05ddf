"""Clocks that stand still until a test moves them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

#: Where every clock starts.
START = datetime(2026, 11, 23, tzinfo=timezone.utc)


class ManualClock:
    """
    A clock for tests.

    :param step: Seconds that the clock moves on after each reading.
    """

    def __init__(self, start: datetime = START, *, step: float = 0.0) -> None:
        self.now = start
        self.step = timedelta(seconds=step)

    def __call__(self) -> datetime:
        now = self.now
        self.now += self.step
        return now


class ManualTimer:
    """Seconds that pass only while a test sleeps; the clock and the sleep of a ``Gate``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
