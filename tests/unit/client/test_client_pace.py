from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque

import pytest

from airflow_provider_vocalsep.api.errors import VendorError, Verdict
from airflow_provider_vocalsep.client.pace import (
    MAINTENANCE,
    AdaptiveRate,
    Gate,
    parse_rate,
    read_gate,
    submit_gate,
)


class Window:
    """A vendor that accepts so many submits in any so many seconds."""

    def __init__(self, requests: int, seconds: float) -> None:
        self.requests, self.seconds = requests, seconds
        self.times: deque[float] = deque()

    def takes(self, now: float) -> bool:
        while self.times and now - self.times[0] >= self.seconds:
            self.times.popleft()
        if len(self.times) >= self.requests:
            return False
        self.times.append(now)
        return True


def share(processes: int, *, seconds: float = 900, warm_up: float = 100, threads: int = 4):
    """Simulate processes that always have something to submit: the used share of the window, and what each got."""
    chance = random.Random(processes)
    paces = [AdaptiveRate(20, 10, uniform=chance.uniform) for _ in range(processes)]
    window, accepted, refused = Window(20, 10), [0] * processes, 0
    events = [(chance.random() * 3, n, "turn", n // threads) for n in range(processes * threads)]
    heapq.heapify(events)
    count = len(events)
    while events[0][0] < seconds:
        now, _, what, process = heapq.heappop(events)
        count += 1
        if what == "turn":
            heapq.heappush(
                events, (paces[process].turn(now) + chance.uniform(0, 0.05), count, "send", process)
            )
            continue
        if window.takes(now):
            paces[process].accepted()
            accepted[process] += now > warm_up
        else:
            paces[process].refused(now)
            refused += now > warm_up
        heapq.heappush(events, (now + 0.3, count, "turn", process))
    return sum(accepted) / (2 * (seconds - warm_up)), accepted, refused


class TestTheWindow:
    def test_is_filled_by_one_process_alone_with_no_refusal(self):
        used, _, refused = share(1)
        assert used >= 0.95
        assert refused == 0

    @pytest.mark.parametrize("processes", [2, 8, 50])
    def test_is_shared_by_many_and_none_starves(self, processes):
        used, accepted, refused = share(processes)
        assert used >= 0.9
        assert min(accepted) >= sum(accepted) / processes / 5
        assert refused <= 2 * sum(accepted)

    def test_is_taken_back_when_the_others_are_gone(self):
        pace = AdaptiveRate(20, 10, uniform=lambda low, high: low)
        for now in range(40):
            pace.refused(now)
        assert pace.spacing > 5
        for _ in range(100):
            pace.accepted()
        assert pace.spacing == pytest.approx(0.5, rel=0.02)


class TestAGate:
    @pytest.fixture
    def clock(self):
        return [0.0]

    @pytest.fixture
    def gate(self, clock):
        def sleep(seconds):
            clock[0] += seconds

        return Gate(AdaptiveRate(20, 10, uniform=lambda low, high: low), now=lambda: clock[0], sleep=sleep)

    def test_lets_through_evenly(self, gate, clock):
        times = []
        for _ in range(21):
            gate.wait()
            times.append(clock[0])
        assert times[0] == 0
        assert times[20] == pytest.approx(10, rel=0.02)

    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (VendorError("m", verdict=Verdict.WAIT, code=MAINTENANCE), 30),
            (VendorError("m", verdict=Verdict.WAIT, code=429, retry_after=77), 77),
        ],
        ids=["maintenance", "Retry-After"],
    )
    def test_stays_closed_as_long_as_the_vendor_wants(self, gate, clock, error, seconds):
        gate.wait()
        gate.refused(error)
        gate.wait()
        assert clock[0] >= seconds
        assert gate.pace.spacing < 1

    def test_is_not_slowed_by_other_refusals(self, gate, clock):
        before = gate.pace.spacing
        gate.refused(VendorError("no", verdict=Verdict.FATAL, code=401))
        assert gate.pace.spacing == before

    def test_is_the_same_for_coroutines(self, gate, clock, monkeypatch):
        async def sleep(seconds):
            clock[0] += seconds

        monkeypatch.setattr(asyncio, "sleep", sleep)
        gate.wait()
        gate.refused(VendorError("m", verdict=Verdict.WAIT, code=MAINTENANCE))
        asyncio.run(gate.wait_async())
        assert clock[0] >= 30


def test_a_rate_is_read_and_a_wrong_one_refused():
    assert parse_rate("20/10s") == (20, 10.0)
    assert parse_rate(" 5 / 1.5 ") == (5, 1.5)
    for wrong in ("", "20", "0/10s", "20/0s", "a/b"):
        with pytest.raises(ValueError, match="20/10s"):
            parse_rate(wrong)


def test_threads_of_a_process_share_the_gate_of_an_account():
    assert submit_gate("https://a", "one", "20/10s") is submit_gate("https://a", "one", "20/10s")
    assert submit_gate("https://a", "one", "20/10s") is not submit_gate("https://a", "two", "20/10s")


def test_submits_and_reads_of_an_account_have_gates_of_their_own():
    assert read_gate("https://a", "one", "20/10s") is read_gate("https://a", "one", "20/10s")
    assert read_gate("https://a", "one", "20/10s") is not submit_gate("https://a", "one", "20/10s")
