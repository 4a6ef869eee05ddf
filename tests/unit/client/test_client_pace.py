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
from tests.support.manual_clock import ManualTimer


class Window:
    """A vendor that accepts a number of submits in any window of some seconds."""

    def __init__(self, requests: int, seconds: float) -> None:
        self.requests, self.seconds = requests, seconds
        self.times: deque[float] = deque()

    def accepts(self, now: float) -> bool:
        while self.times and now - self.times[0] >= self.seconds:
            self.times.popleft()
        if len(self.times) >= self.requests:
            return False
        self.times.append(now)
        return True


def simulate(processes: int, *, seconds: float = 900, warm_up: float = 100, threads: int = 4):
    """
    Simulate processes that always have something to submit.

    Return the used share of the window, the accepted submits of each process, and the refused submits.
    """
    chance = random.Random(processes)
    rates = [AdaptiveRate(20, 10, uniform=chance.uniform) for _ in range(processes)]
    window, accepted, refused = Window(20, 10), [0] * processes, 0
    events = [(chance.random() * 3, n, "turn", n // threads) for n in range(processes * threads)]
    heapq.heapify(events)
    count = len(events)
    while events[0][0] < seconds:
        now, _, step, process = heapq.heappop(events)
        count += 1
        if step == "turn":
            send_at = rates[process].take_turn(now) + chance.uniform(0, 0.05)
            heapq.heappush(events, (send_at, count, "send", process))
            continue
        if window.accepts(now):
            rates[process].accepted()
            accepted[process] += now > warm_up
        else:
            rates[process].refused(now)
            refused += now > warm_up
        heapq.heappush(events, (now + 0.3, count, "turn", process))
    return sum(accepted) / (2 * (seconds - warm_up)), accepted, refused


class TestAdaptiveRate:
    def test_one_process_fills_the_window_without_a_refusal(self):
        used, _, refused = simulate(1)

        assert used >= 0.95
        assert refused == 0

    @pytest.mark.parametrize("processes", [2, 8, 50])
    def test_many_processes_share_the_window_and_none_starves(self, processes):
        used, accepted, refused = simulate(processes)

        assert used >= 0.9
        assert min(accepted) >= sum(accepted) / processes / 5
        assert refused <= 2 * sum(accepted)

    def test_accepted_requests_narrow_the_spacing_to_that_of_the_vendor(self):
        rate = AdaptiveRate(20, 10, uniform=lambda low, high: low)
        for now in range(40):
            rate.refused(now)

        assert rate.spacing > 5

        for _ in range(100):
            rate.accepted()
        assert rate.spacing == pytest.approx(0.5, rel=0.02)


class TestGate:
    @pytest.fixture
    def timer(self):
        return ManualTimer()

    @pytest.fixture
    def gate(self, timer):
        rate = AdaptiveRate(20, 10, uniform=lambda low, high: low)
        return Gate(rate, now=timer, sleep=timer.sleep)

    def test_requests_are_evenly_spaced(self, gate, timer):
        times = []
        for _ in range(21):
            gate.wait()
            times.append(timer.seconds)

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
    def test_gate_stays_closed_as_long_as_the_vendor_wants(self, gate, timer, error, seconds):
        gate.wait()
        gate.refused(error)
        gate.wait()

        assert timer.seconds >= seconds
        assert gate.rate.spacing < 1

    def test_other_refusals_do_not_slow_the_gate(self, gate):
        before = gate.rate.spacing
        gate.refused(VendorError("no", verdict=Verdict.FATAL, code=401))

        assert gate.rate.spacing == before

    def test_coroutines_wait_like_threads(self, gate, timer, monkeypatch):
        monkeypatch.setattr(asyncio, "sleep", timer.sleep_async)
        gate.wait()
        gate.refused(VendorError("m", verdict=Verdict.WAIT, code=MAINTENANCE))
        asyncio.run(gate.wait_async())

        assert timer.seconds >= 30


def test_parse_rate_reads_a_rate_and_refuses_anything_else():
    assert parse_rate("20/10s") == (20, 10.0)
    assert parse_rate(" 5 / 1.5 ") == (5, 1.5)
    for wrong in ("", "20", "0/10s", "20/0s", "a/b"):
        with pytest.raises(ValueError, match="20/10s"):
            parse_rate(wrong)


def test_threads_share_the_gate_of_an_account():
    assert submit_gate("https://a", "one", "20/10s") is submit_gate("https://a", "one", "20/10s")
    assert submit_gate("https://a", "one", "20/10s") is not submit_gate("https://a", "two", "20/10s")


def test_submits_and_reads_of_an_account_have_separate_gates():
    assert read_gate("https://a", "one", "20/10s") is read_gate("https://a", "one", "20/10s")
    assert read_gate("https://a", "one", "20/10s") is not submit_gate("https://a", "one", "20/10s")
