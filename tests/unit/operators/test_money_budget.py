"""A budget holds over killed tries, and stops only what is not paid yet."""

from __future__ import annotations

from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_vocalsep.api.errors import OutOfCreditsError, Verdict
from tests.support.vendor import ACCEPT, ACCEPT_AND_DIE, Killed

KEYS = tuple(f"track {number}" for number in range(30))


def out_of_credits():
    return OutOfCreditsError("No credits.", verdict=Verdict.OUT_OF_CREDITS, code=402)


class TestMaxCredits:
    @pytest.mark.parametrize("on_lost_submit", ["adopt", "resubmit"])
    @pytest.mark.xfail(strict=True, reason="M6")
    def test_cap_holds_over_killed_tries(self, bench, vendor, on_lost_submit):
        vendor.fates = [*[ACCEPT] * 7, ACCEPT_AND_DIE, *[ACCEPT] * 7, ACCEPT_AND_DIE]

        for _ in range(3):
            with suppress(Killed, TaskDeferred):
                bench.batch(*KEYS, max_credits=100, max_failed=5, on_lost_submit=on_lost_submit).execute(
                    bench.context()
                )

        assert 8 <= vendor.charges <= 10

    @pytest.mark.xfail(strict=True, reason="M6")
    def test_cap_holds_without_the_run_report(self, bench, vendor):
        bench.deferral(bench.batch(*KEYS[:4], max_credits=20))
        bench.delete("/runs/")

        bench.deferral(bench.batch(*KEYS[:4], max_credits=20))

        assert vendor.charges == 2

    def test_cap_holds_over_a_plain_retry(self, bench, vendor):  # M6, kept
        for _ in range(2):
            bench.deferral(bench.batch(*KEYS[:4], max_credits=20))

        assert vendor.charges == 2

    @pytest.mark.xfail(strict=True, reason="M6")
    def test_refunded_credits_can_be_spent_again(self, bench, vendor):
        deferred = bench.deferral(bench.batch("one", max_credits=10))
        vendor.fail(code=531)

        with pytest.raises(TaskDeferred):
            bench.resume(bench.batch("one", max_credits=10), deferred, bench.wait(deferred))

        assert vendor.charges == 2


class TestABatchThatIsStopped:
    """Of ten tracks the last five are paid, by another run, and have ended."""

    @pytest.fixture
    def _paid(self, bench, vendor):
        bench.another_run().deferral(bench.batch(*KEYS[5:10]))
        for vendor_task_id in list(vendor.records):
            vendor.finish(vendor_task_id)

    @pytest.mark.usefixtures("_paid")
    @pytest.mark.xfail(strict=True, reason="M8")
    def test_spent_budget_does_not_keep_paid_tracks_from_landing(self, bench, vendor):
        operator = bench.batch(*KEYS[:10], max_credits=10)
        deferred = bench.deferral(operator)
        vendor.finish("T6")

        counts = bench.finish(operator, deferred)

        assert (counts["landed"], counts["left"], vendor.charges) == (6, 4, 6)

    @pytest.mark.usefixtures("_paid")
    @pytest.mark.xfail(strict=True, reason="M8")
    def test_empty_account_does_not_keep_paid_tracks_from_landing(self, bench, vendor):
        vendor.fates = [out_of_credits()]

        with pytest.raises(Exception, match=r"5 tracks were left: .* 5 landed"):
            bench.run(bench.batch(*KEYS[:10]))

        assert vendor.charges == 5

    @pytest.mark.usefixtures("_paid")
    @pytest.mark.xfail(strict=True, reason="M8")
    def test_spent_budget_does_not_keep_paid_tracks_from_being_waited_for(self, bench, vendor):
        bench.another_run("a third run").deferral(bench.batch("paid, not ended"))

        deferred = bench.deferral(bench.batch("new", "paid, not ended", max_credits=5))

        assert set(deferred.trigger.waiting) == {"T6"}


class TestWhatFailedForGood:
    """H7: a source that the vendor cannot fetch (451) fails every night the same way."""

    @pytest.fixture(params=["single", "batch"])
    def operator(self, request, bench):
        make = bench.separate if request.param == "single" else bench.batch
        keys = () if request.param == "single" else ("one",)
        return lambda **arguments: make(*keys, **arguments)

    @pytest.fixture(autouse=True)
    def failed(self, bench, vendor, operator):
        deferred = bench.deferral(operator())
        vendor.fail(code=451)
        with pytest.raises(Exception, match="451"):
            bench.finish(operator(), deferred)

    @pytest.mark.xfail(strict=True, reason="H7")
    def test_is_not_bought_again_by_another_run_and_the_reason_is_told(self, bench, vendor, operator):
        run = bench.another_run()

        with pytest.raises(Exception, match=r"451(.|\n)*if_failed"):
            run.run(operator())

        assert vendor.charges == 1
        assert run.rows()[1]["one"]["state"] == "failed"

    @pytest.mark.xfail(strict=True, reason="H7")
    def test_is_bought_again_by_another_run_that_asks_for_it(self, bench, vendor, operator):
        run = bench.another_run()

        run.deferral(operator(if_failed="retry"))

        assert vendor.charges == 2

    def test_is_bought_again_where_a_person_clears_the_task(self, bench, vendor, operator):  # H7, kept
        bench.deferral(operator())

        assert vendor.charges == 2


class TestWhatFailedAndMayPass:
    def test_is_bought_again_by_another_run(self, bench, vendor):  # H7, kept
        bench.max_tries = 0
        deferred = bench.deferral(bench.separate())
        vendor.fail(code=500)
        with pytest.raises(Exception, match="500"):
            bench.finish(bench.separate(), deferred)

        bench.another_run().deferral(bench.separate())

        assert vendor.charges == 2


class TestMaxFailed:
    def fail_of_three(self, bench, vendor, count, max_failed):
        operator = bench.batch("one", "two", "three", max_failed=max_failed)
        deferred = bench.deferral(operator)
        for number in (1, 2, 3):
            vendor.finish(f"T{number}") if number > count else vendor.fail(f"T{number}", code=451)
        return bench.finish(operator, deferred)

    @pytest.mark.parametrize("max_failed", [1.0, "1.0"])
    @pytest.mark.xfail(strict=True, reason="M19")
    def test_share_of_one_is_all_tracks(self, bench, vendor, max_failed):
        assert self.fail_of_three(bench, vendor, 3, max_failed)["failed"] == 3

    @pytest.mark.parametrize("max_failed", [1, "1"])
    def test_whole_number_is_a_count(self, bench, vendor, max_failed):  # M19, kept
        with pytest.raises(Exception, match="2 of 3 tracks failed"):
            self.fail_of_three(bench, vendor, 2, max_failed)


class TestDeferrable:
    def test_default_is_independent_of_airflows_default_deferrable(self, bench, monkeypatch):  # M19, kept
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "False")

        assert bench.separate().deferrable
        assert bench.batch().deferrable

    @pytest.mark.xfail(strict=True, reason="M19")
    def test_documentation_says_so(self, bench):
        assert "default_deferrable" in type(bench.separate()).__doc__
        assert "default_deferrable" in type(bench.batch()).__doc__
