from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.ledger import EntryState, LedgerError
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit
from airflow_provider_vocalsep.separation.submitting import LostSubmitError, ResubmitDueError
from tests.support.ledger_bench import IDENTITY, ME, ME_AGAIN, OTHER_RUN, LedgerBench
from tests.support.vendor import FakeVendor, Killed


@pytest.fixture
def bench():
    return LedgerBench()


def too_fast(code: int = 430) -> VendorError:
    return VendorError("too fast", verdict=Verdict.WAIT, code=code)


class TestSecure:
    def test_submits_once_and_attaches_every_later_time(self, bench):
        vendor = FakeVendor()
        assert bench.secure(vendor).submitted_now

        for asker in (ME_AGAIN, OTHER_RUN, ME):
            secured = bench.secure(vendor, asker)
            assert (secured.vendor_task_id, secured.submitted_now) == ("T1", False)

        assert vendor.charges == 1

    def test_claim_is_in_the_ledger_before_the_submit_is_sent(self, bench):
        seen = []
        vendor = FakeVendor()
        vendor.submit = lambda *a, **k: seen.append(bench.entry.state) or "T1"

        bench.secure(vendor)

        assert seen == [EntryState.CLAIMED]


class TestSecureAfterAKill:
    def test_kill_before_the_submit_leaves_a_doubt_and_no_retry_pays(self, bench):
        with pytest.raises(Killed):
            bench.secure(FakeVendor(Killed()))
        vendor = FakeVendor()

        with pytest.raises(LostSubmitError, match=r"'one' may have been paid.*on_lost_submit='resubmit'"):
            bench.secure(vendor, ME_AGAIN)

        assert vendor.calls == 0
        assert bench.entry.state is EntryState.CLAIMED

    @pytest.mark.parametrize("policy", [OnLostSubmit.ADOPT, OnLostSubmit.FAIL])
    def test_kill_after_the_vendor_accepted_never_pays_again_by_default(self, bench, policy):
        vendor = FakeVendor("accept and die")
        with pytest.raises(Killed):
            bench.secure(vendor)

        for _ in range(3):
            with pytest.raises(LostSubmitError):
                bench.secure(vendor, ME_AGAIN, policy)

        assert vendor.charges == 1

    def test_resubmit_policy_submits_again_in_place_of_the_lost_attempt(self, bench):
        vendor = FakeVendor("accept and die")
        with pytest.raises(Killed):
            bench.secure(vendor)

        assert bench.secure(vendor, ME_AGAIN, OnLostSubmit.RESUBMIT).vendor_task_id == "T2"
        assert [e.event for e in bench.entry.history][:3] == ["claimed", "submit_given_up", "claimed"]


class TestSecureWithALostAnswer:
    def test_lost_answer_is_a_doubt_whose_message_names_the_next_step(self, bench):
        vendor = FakeVendor("accept and lose")

        with pytest.raises(
            LostSubmitError, match=r"'one'.*clear this Airflow task with on_lost_submit='resubmit'"
        ):
            bench.secure(vendor)

        assert bench.entry.history[-1].event == "submit_lost"
        with pytest.raises(LostSubmitError):
            bench.secure(vendor, ME_AGAIN)
        assert vendor.charges == 1

    def test_resubmit_policy_leaves_the_next_submit_to_airflows_retry(self, bench):
        vendor = FakeVendor("accept and lose")

        with pytest.raises(ResubmitDueError, match=r"'one'.*A retry submits it again"):
            bench.secure(vendor, policy=OnLostSubmit.RESUBMIT)

        assert vendor.charges == 1
        assert bench.secure(vendor, ME_AGAIN, OnLostSubmit.RESUBMIT).vendor_task_id == "T2"


class TestSecureWithARefusal:
    def test_too_fast_is_sent_again_later_with_the_claim_renewed(self, bench):
        vendor = FakeVendor(too_fast(), too_fast(405), too_fast(455))
        started = bench.now

        assert bench.secure(vendor).vendor_task_id == "T1"
        assert vendor.charges == 1
        assert bench.now - started > timedelta(seconds=3)
        assert bench.entry.current.claimed_at > started

    def test_next_send_waits_as_long_as_the_vendor_asks(self, bench):
        started = bench.now

        bench.secure(FakeVendor(VendorError("busy", verdict=Verdict.WAIT, code=429, retry_after=77)))

        assert bench.now - started >= timedelta(seconds=77)

    def test_too_fast_that_does_not_end_is_left_to_airflows_retries(self, bench, monkeypatch):
        monkeypatch.setattr("airflow_provider_vocalsep.separation.submit_retries.SUBMIT_PATIENCE", 0)

        with pytest.raises(VendorError, match="too fast"):
            bench.secure(FakeVendor(*[too_fast()] * 3))

        assert bench.entry.state is EntryState.REFUSED
        assert bench.secure(FakeVendor(), ME_AGAIN).submitted_now

    @pytest.mark.parametrize(
        "error, final",
        [
            (OutOfCreditsError("no credits", verdict=Verdict.OUT_OF_CREDITS, code=402), True),
            (VendorError("wrong key", verdict=Verdict.FATAL, code=401), True),
        ],
        ids=["out of credits", "wrong key"],
    )
    def test_refused_submit_costs_nothing_and_may_be_claimed_again(self, bench, error, final):
        with pytest.raises(type(error)):
            bench.secure(FakeVendor(error))

        assert bench.entry.state is EntryState.FAILED
        assert bench.entry.current.outcome.final is final
        vendor = FakeVendor()
        assert bench.secure(vendor, ME_AGAIN).submitted_now
        assert vendor.charges == 1

    def test_refused_connection_is_retried(self, bench):
        vendor = FakeVendor(VendorUnreachableError("refused"))

        assert bench.secure(vendor).vendor_task_id == "T1"


class TestSecureFromASecondRun:
    def test_second_run_waits_for_the_answer_to_a_submit_under_way(self, bench):
        first = FakeVendor(Killed())
        with pytest.raises(Killed):
            bench.secure(first)
        attempt_id = bench.entry.current.attempt_id

        def answer_comes(seconds: float) -> None:
            bench.now += timedelta(seconds=seconds)
            bench.ledger.record_submitted(IDENTITY, attempt_id, "T1")

        vendor = FakeVendor()

        assert bench.job(vendor, OTHER_RUN, sleep=answer_comes).secure().vendor_task_id == "T1"
        assert vendor.calls == 0

    def test_second_run_counts_a_submit_as_lost_when_no_answer_can_come_any_more(self, bench):
        with pytest.raises(Killed):
            bench.secure(FakeVendor("accept and die"))
        vendor = FakeVendor()

        with pytest.raises(LostSubmitError):
            bench.secure(vendor, OTHER_RUN)

        assert vendor.calls == 0

    def test_take_over_during_the_first_runs_back_off_leaves_one_submit(self, bench):
        """While the first sleeps after "too fast", a second resubmits. Only one may send."""
        second = FakeVendor()

        def taken_over(seconds: float) -> None:
            bench.now += timedelta(seconds=300)
            if not second.calls:
                bench.secure(second, OTHER_RUN, OnLostSubmit.RESUBMIT)

        first = FakeVendor(too_fast())
        secured = bench.job(first, ME, sleep=taken_over).secure()

        assert secured.vendor_task_id == "T1"
        assert not secured.submitted_now
        assert (first.charges, second.charges) == (0, 1)


class TestSecureWithoutTheLedger:
    def test_unreadable_ledger_before_the_claim_sends_nothing(self, bench):
        def away(*_):
            raise LedgerError("the bucket is away")

        bench.store.read = away
        vendor = FakeVendor()

        with pytest.raises(LedgerError):
            bench.secure(vendor)

        assert vendor.calls == 0

    def test_recording_the_answer_is_retried_while_the_ledger_is_away(self, bench):
        write, errors = bench.store.write, [LedgerError("away")] * 4

        def flaky(identity, entry, version):
            if entry.current.vendor_task_id and errors:
                raise errors.pop()
            write(identity, entry, version)

        bench.store.write = flaky

        assert bench.secure(FakeVendor()).vendor_task_id == "T1"
        assert bench.entry.current.vendor_task_id == "T1"

    def test_answer_that_cannot_be_recorded_is_named_in_the_error(self, bench):
        write = bench.store.write

        def broken(identity, entry, version):
            if entry.current.vendor_task_id:
                raise LedgerError("away")
            write(identity, entry, version)

        bench.store.write = broken

        with pytest.raises(LedgerError, match="paid for as vendor task T1"):
            bench.secure(FakeVendor())


def test_separation_is_identified_by_the_address_that_the_user_wrote(bench):
    own_file = Track(key="one", audio_url="s3://music/one.wav")

    assert bench.job(FakeVendor(), track=own_file).identity.source == "s3://music/one.wav"
