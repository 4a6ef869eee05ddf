"""A task that Airflow stops submits nothing more, and its retry goes on without any doubt."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_vocalsep.client.pace import AdaptiveRate, Gate, parse_rate
from airflow_provider_vocalsep.separation.runtime import Runtime
from tests.support.operator_bench import FakeLander
from tests.support.vendor import too_fast

KEYS = tuple(f"track {number}" for number in range(12))


def stop_quietly(bench, operator):
    """Run a try that is stopped; how it ends is Airflow's affair."""
    with suppress(BaseException):
        operator.execute(bench.context())


class TestOnKill:
    def test_batch_that_is_killed_between_two_submits_sends_no_more(self, bench, vendor):
        operator = bench.batch(*KEYS)
        vendor.on_charge = lambda task: operator.on_kill() if task == "T4" else None

        stop_quietly(bench, operator)

        assert vendor.charges == 4
        assert bench.doubts() == []

    def test_retry_of_a_killed_batch_submits_the_rest_and_nothing_twice(self, bench, vendor):
        operator = bench.batch(*KEYS)
        vendor.on_charge = lambda task: operator.on_kill() if task == "T4" else None
        stop_quietly(bench, operator)
        charges = vendor.charges

        deferred = bench.deferral(bench.batch(*KEYS))

        assert charges == 4
        assert set(deferred.trigger.waiting) == {f"T{number}" for number in range(1, 13)}
        assert vendor.charges == 12

    @pytest.mark.parametrize("kind", ["single", "batch"])
    def test_kill_in_a_back_off_ends_it_without_another_submit(self, bench, vendor, kind):
        operator = bench.separate() if kind == "single" else bench.batch("one")
        vendor.fates = [too_fast(retry_after=60)]
        bench.in_the_back_off(operator.on_kill)

        stop_quietly(bench, operator)

        assert (vendor.calls, bench.doubts()) == (1, [])

    @pytest.mark.parametrize("kind", ["single", "batch"])
    def test_kill_while_the_claim_is_written_sends_no_submit_and_leaves_no_doubt(self, bench, vendor, kind):
        operator = bench.separate() if kind == "single" else bench.batch("one")

        def stop(params) -> None:
            if "/ledger/" in params["Key"] and b'"claimed"' in params["Body"]:
                operator.on_kill()

        bench.on_put(stop)

        stop_quietly(bench, operator)

        assert (vendor.calls, bench.doubts()) == (0, [])

    def test_kill_while_another_run_is_submitting_ends_the_wait_for_its_answer(self, bench, vendor):
        operator, sleeps = bench.separate(), []

        def run_another(_: str) -> None:
            vendor.on_charge = None
            bench.on_sleep = lambda _: (sleeps.append(1), operator.on_kill())
            stop_quietly(bench, operator)
            bench.on_sleep = None

        vendor.on_charge = run_another

        bench.another_run().deferral(bench.separate())

        assert (vendor.charges, len(sleeps)) == (1, 1)

    def test_batch_that_is_killed_while_it_lands_begins_no_further_landing(self, bench, vendor):
        operator = bench.batch("one", "two", "three")
        deferred = bench.deferral(operator)
        for vendor_task_id in deferred.trigger.waiting:
            vendor.finish(vendor_task_id)
        FakeLander.on_land = operator.on_kill

        with suppress(BaseException):
            bench.resume(operator, deferred, bench.wait(deferred))

        assert FakeLander.landings <= 1
        FakeLander.on_land = None
        assert bench.run(bench.batch("one", "two", "three"))["landed"] == 3
        assert vendor.charges == 3


class TestOnKillInRealTime:
    """The second of two submits has its turn after 3 s."""

    @pytest.fixture(autouse=True)
    def gate(self, bench, monkeypatch):
        gate = Gate(AdaptiveRate(*parse_rate("1/3s")))
        runtime = "airflow_provider_vocalsep.operators._runtime"
        monkeypatch.setattr(f"{runtime}.submit_gate", lambda *_: gate)
        monkeypatch.setattr(f"{runtime}.Runtime", Runtime)

    def test_batch_that_is_killed_ends_within_two_seconds(self, bench, vendor):
        operator, began = bench.batch("one", "two"), time.perf_counter()
        timer = threading.Timer(0.2, operator.on_kill)
        timer.start()

        stop_quietly(bench, operator)

        timer.join()
        assert vendor.charges == 1
        assert time.perf_counter() - began < 2

    def test_execution_timeout_ends_a_batch_within_two_seconds(self, bench, vendor):
        def time_out(*_: object) -> None:
            raise AirflowTaskTimeout("execution_timeout")

        operator, began = bench.batch("one", "two", parallel=2), time.perf_counter()
        before = signal.signal(signal.SIGALRM, time_out)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            # Airflow's own code around ``execute``: on_kill, and the error again.
            with pytest.raises(AirflowTaskTimeout):
                operator.execute(bench.context())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        assert vendor.charges == 1
        assert time.perf_counter() - began < 2
