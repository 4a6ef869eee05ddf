"""A refused submit has cost nothing: it leaves no doubt, blocks nobody, and holds no worker for long."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from tests.support.vendor import (
    ACCEPT_AND_DIE,
    Killed,
    account_settings,
    too_fast,
    under_maintenance,
    unreachable,
)

REFUSALS = {"too fast": too_fast, "maintenance": under_maintenance, "unreachable": unreachable}


@pytest.fixture(params=REFUSALS.values(), ids=REFUSALS)
def refusal(request):
    return request.param()


class TestExecute:
    def test_kill_in_the_back_off_of_a_refused_submit_leaves_no_doubt(self, bench, vendor, refusal):
        vendor.fates = [refusal]
        bench.in_the_back_off(bench.process.die)
        with suppress(Killed, TaskDeferred):
            bench.separate().execute(bench.context())
        assert vendor.charges == 0

        deferred = bench.deferral(bench.separate())

        assert deferred.trigger.vendor_task_id == "T1"
        assert (vendor.charges, bench.doubts()) == (1, [])

    def test_refusal_is_in_the_ledger_before_the_back_off(self, bench, vendor, refusal):
        seen = {}
        vendor.fates = [refusal]
        bench.in_the_back_off(lambda: seen.update(doubts=bench.doubts(), last=bench.events()[-1]))

        with suppress(TaskDeferred):
            bench.separate().execute(bench.context())

        assert seen == {"doubts": [], "last": "submit_refused"}

    def test_second_run_goes_ahead_while_the_first_waits_in_its_back_off(self, bench, vendor):
        deferred = []
        vendor.fates = [too_fast(retry_after=600)]

        def run_another() -> None:
            bench.sleep(240)  # older than any claim whose process may still be sending
            deferred.append(bench.another_run().deferral(bench.separate()))

        bench.in_the_back_off(run_another)

        deferred.append(bench.deferral(bench.separate()))

        assert [one.trigger.vendor_task_id for one in deferred] == ["T1", "T1"]
        assert (vendor.charges, bench.doubts()) == (1, [])

    def test_kill_during_the_send_leaves_a_doubt_that_no_retry_pays_for_again(self, bench, vendor):  # M1
        vendor.fates = [ACCEPT_AND_DIE]
        with suppress(Killed):
            bench.separate().execute(bench.context())

        with pytest.raises(Exception, match="may have been paid for already"):
            bench.separate().execute(bench.context())

        assert (vendor.charges, bench.doubts()) == (1, ["one"])

    @pytest.mark.xfail(strict=True, reason="M18")
    def test_maintenance_gives_the_worker_back(self, bench, vendor):
        vendor.fates = [under_maintenance() for _ in range(10)]
        began = time.time()

        bench.deferral(bench.separate())

        assert (vendor.charges, bench.doubts()) == (0, [])
        assert time.time() - began < 60


class TestExecuteOfABatch:
    def test_kill_in_the_back_off_of_a_refused_submit_leaves_no_doubt(self, bench, vendor, refusal):
        vendor.fates = ["accept", refusal]
        bench.in_the_back_off(bench.process.die)
        with suppress(Killed, TaskDeferred):
            bench.batch("one", "two", "three").execute(bench.context())
        assert vendor.charges == 1

        deferred = bench.deferral(bench.batch("one", "two", "three"))

        assert set(deferred.trigger.waiting) == {"T1", "T2", "T3"}
        assert (vendor.charges, bench.doubts()) == (3, [])

    def test_second_run_goes_ahead_while_the_first_waits_for_its_turn(self, bench, vendor):
        vendor.fates = [too_fast(retry_after=600)]

        def run_another() -> None:
            bench.sleep(240)
            bench.another_run().deferral(bench.batch("one"))

        bench.in_the_back_off(run_another)

        deferred = bench.deferral(bench.batch("one"))

        assert set(deferred.trigger.waiting) == {"T1"}
        assert (vendor.charges, bench.doubts()) == (1, [])

    @pytest.mark.xfail(strict=True, reason="M18")
    def test_maintenance_gives_the_worker_back_and_the_batch_goes_on_after_it(self, bench, vendor):
        vendor.fates = [under_maintenance() for _ in range(10)]
        vendor.separation_seconds = 60
        operator, began = bench.batch("one", "two"), time.time()

        deferred = bench.deferral(operator)

        assert (vendor.charges, bench.doubts()) == (0, [])
        assert time.time() - began < 60
        assert bench.finish(operator, deferred)["landed"] == 2


class TestTheSharedWindow:
    """Two batches at once, each a process of its own, against a vendor that takes 5 submits in 10 s."""

    KEYS = tuple(f"track {number}" for number in range(8))

    @pytest.fixture(autouse=True)
    def window(self, vendor):
        vendor.window = (5, 10.0)
        vendor.settings = account_settings(submit_rate="5/10s")

    @pytest.mark.xfail(strict=True, reason="H8")
    def test_batches_that_share_an_account_are_not_refused(self, bench, vendor):
        def run_another(vendor_task_id: str) -> None:
            if vendor_task_id == "T3":
                bench.another_run().deferral(bench.batch(*(f"other {key}" for key in self.KEYS)))

        vendor.on_charge = run_another

        bench.deferral(bench.batch(*self.KEYS))

        assert (vendor.charges, vendor.refusals) == (16, 0)

    @pytest.mark.xfail(strict=True, reason="H8")
    def test_batch_lands_what_has_ended_while_it_still_submits(self, bench, vendor):
        landed_by = {}
        vendor.window, vendor.separation_seconds = None, 5.0
        vendor.on_charge = lambda task: landed_by.update(
            {task: sum(key.endswith("manifest.json") for key in bench.keys())}
        )

        counts = bench.run(bench.batch(*(f"track {number}" for number in range(20))))

        assert counts["landed"] == 20
        assert landed_by["T20"] > 0
