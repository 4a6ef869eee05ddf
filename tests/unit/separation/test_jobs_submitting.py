from __future__ import annotations

from datetime import timedelta

import pytest
from jobs_world import ME, ME_AGAIN, OTHER_RUN, SEPARATION, FakeVendor, Killed, World

from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import EntryState, LedgerError
from airflow_provider_vocalsep.separation.submitting import (
    LostSubmitError,
    OnLostSubmit,
    ResubmitDueError,
    Submitter,
)
from airflow_provider_vocalsep.separation.track_job import Separation


@pytest.fixture
def world():
    return World()


def too_fast(code: int = 430) -> VendorError:
    return VendorError("too fast", verdict=Verdict.WAIT, code=code)


class TestSecure:
    def test_submits_once_and_attaches_ever_after(self, world):
        vendor = FakeVendor()
        assert world.secure(vendor).submitted_now
        for asker in (ME_AGAIN, OTHER_RUN, ME):
            secured = world.secure(vendor, asker)
            assert (secured.vendor_task_id, secured.submitted_now) == ("T1", False)
        assert vendor.charges == 1

    def test_writes_the_intent_before_anything_is_sent(self, world):
        seen = []
        vendor = FakeVendor()
        vendor.submit = lambda *a, **k: seen.append(world.entry.state) or "T1"
        world.secure(vendor)
        assert seen == [EntryState.CLAIMED]


class TestAProcessThatDies:
    def test_before_the_submit_leaves_a_doubt_that_is_not_paid_for(self, world):
        with pytest.raises(Killed):
            world.secure(FakeVendor(Killed()))
        vendor = FakeVendor()
        with pytest.raises(LostSubmitError, match=r"'one' may have been paid.*on_lost_submit='resubmit'"):
            world.secure(vendor, ME_AGAIN)
        assert vendor.calls == 0
        assert world.entry.state is EntryState.CLAIMED

    @pytest.mark.parametrize("policy", [OnLostSubmit.ADOPT, OnLostSubmit.FAIL])
    def test_right_after_the_vendor_accepted_never_pays_again_by_default(self, world, policy):
        vendor = FakeVendor("accept and die")
        with pytest.raises(Killed):
            world.secure(vendor)
        for _ in range(3):
            with pytest.raises(LostSubmitError):
                world.secure(vendor, ME_AGAIN, policy)
        assert vendor.charges == 1

    def test_is_submitted_anew_when_told_so(self, world):
        vendor = FakeVendor("accept and die")
        with pytest.raises(Killed):
            world.secure(vendor)
        assert world.secure(vendor, ME_AGAIN, OnLostSubmit.RESUBMIT).vendor_task_id == "T2"
        assert [e.event for e in world.entry.history][:3] == ["claimed", "submit_given_up", "claimed"]


class TestALostAnswer:
    def test_is_a_doubt_with_the_way_out_in_the_message_and_the_history(self, world):
        vendor = FakeVendor("accept and lose")
        with pytest.raises(
            LostSubmitError, match=r"'one'.*clear this Airflow task with on_lost_submit='resubmit'"
        ):
            world.secure(vendor)
        assert world.entry.history[-1].event == "submit_lost"
        with pytest.raises(LostSubmitError):
            world.secure(vendor, ME_AGAIN)
        assert vendor.charges == 1

    def test_is_left_to_airflows_retries_when_it_is_to_be_submitted_anew(self, world):
        vendor = FakeVendor("accept and lose")
        with pytest.raises(ResubmitDueError, match=r"'one'.*A retry submits it anew"):
            world.secure(vendor, policy=OnLostSubmit.RESUBMIT)
        assert vendor.charges == 1
        assert world.secure(vendor, ME_AGAIN, OnLostSubmit.RESUBMIT).vendor_task_id == "T2"


class TestARefusal:
    def test_for_rate_is_sent_again_later_with_the_claim_renewed(self, world):
        vendor = FakeVendor(too_fast(), too_fast(405), too_fast(455))
        started = world.now
        assert world.secure(vendor).vendor_task_id == "T1"
        assert vendor.charges == 1
        assert world.now - started > timedelta(seconds=3)
        assert world.entry.current.claimed_at > started

    def test_waits_as_long_as_the_vendor_asks(self, world):
        started = world.now
        world.secure(FakeVendor(VendorError("busy", verdict=Verdict.WAIT, code=429, retry_after=77)))
        assert world.now - started >= timedelta(seconds=77)

    def test_for_rate_that_does_not_end_is_left_to_airflows_retries(self, world, monkeypatch):
        monkeypatch.setattr("airflow_provider_vocalsep.separation.submit_retries.SUBMIT_PATIENCE", 0)
        with pytest.raises(VendorError, match="too fast"):
            world.secure(FakeVendor(*[too_fast()] * 3))
        assert world.entry.state is EntryState.FAILED
        assert world.secure(FakeVendor(), ME_AGAIN).submitted_now

    @pytest.mark.parametrize(
        "error, final",
        [
            (OutOfCreditsError("no credits", verdict=Verdict.OUT_OF_CREDITS, code=402), True),
            (VendorError("wrong key", verdict=Verdict.FATAL, code=401), True),
        ],
        ids=["out of credits", "wrong key"],
    )
    def test_costs_nothing_and_may_be_claimed_anew(self, world, error, final):
        with pytest.raises(type(error)):
            world.secure(FakeVendor(error))
        assert world.entry.state is EntryState.FAILED
        assert world.entry.current.outcome.final is final
        vendor = FakeVendor()
        assert world.secure(vendor, ME_AGAIN).submitted_now
        assert vendor.charges == 1

    def test_to_connect_is_tried_again(self, world):
        vendor = FakeVendor(VendorUnreachableError("refused"))
        assert world.secure(vendor).vendor_task_id == "T1"


class TestASecondRun:
    def test_waits_for_the_answer_to_a_submit_that_is_on_its_way(self, world):
        first = FakeVendor(Killed())
        with pytest.raises(Killed):
            world.secure(first)
        attempt_id = world.entry.current.attempt_id

        def answer_comes(seconds: float) -> None:
            world.now += timedelta(seconds=seconds)
            world.ledger.record_submitted(SEPARATION.identity, attempt_id, "T1")

        vendor = FakeVendor()
        submitter = Submitter(
            SEPARATION, vendor=vendor, ledger=world.ledger, asked_by=OTHER_RUN, sleep=answer_comes
        )
        assert submitter.secure().vendor_task_id == "T1"
        assert vendor.calls == 0

    def test_takes_it_for_lost_when_no_answer_can_come_any_more(self, world):
        with pytest.raises(Killed):
            world.secure(FakeVendor("accept and die"))
        vendor = FakeVendor()
        with pytest.raises(LostSubmitError):
            world.secure(vendor, OTHER_RUN)
        assert vendor.calls == 0

    def test_that_takes_over_while_the_first_is_turned_away_leaves_one_submit(self, world):
        """The first is told "too fast"; while it sleeps a person lets a second one resubmit. Only one may send."""
        second = FakeVendor()

        def taken_over(seconds: float) -> None:
            world.now += timedelta(seconds=300)
            if not second.calls:
                world.secure(second, OTHER_RUN, OnLostSubmit.RESUBMIT)

        first = FakeVendor(too_fast())
        secured = Submitter(
            SEPARATION, vendor=first, ledger=world.ledger, asked_by=ME, sleep=taken_over
        ).secure()
        assert secured.vendor_task_id == "T1"
        assert not secured.submitted_now
        assert (first.charges, second.charges) == (0, 1)


class TestTheLedgerAway:
    def test_before_the_claim_nothing_is_sent(self, world):
        def away(*_):
            raise LedgerError("the bucket is away")

        world.store.read = away
        vendor = FakeVendor()
        with pytest.raises(LedgerError):
            world.secure(vendor)
        assert vendor.calls == 0

    def test_for_a_while_after_the_submit_the_answer_is_kept_trying_to_be_written(self, world):
        write, troubles = world.store.write, [LedgerError("away")] * 4

        def flaky(identity, entry, version):
            if entry.current.vendor_task_id and troubles:
                raise troubles.pop()
            write(identity, entry, version)

        world.store.write = flaky
        assert world.secure(FakeVendor()).vendor_task_id == "T1"
        assert world.entry.current.vendor_task_id == "T1"

    def test_for_good_after_the_submit_names_the_paid_task(self, world):
        write = world.store.write

        def broken(identity, entry, version):
            if entry.current.vendor_task_id:
                raise LedgerError("away")
            write(identity, entry, version)

        world.store.write = broken
        with pytest.raises(LedgerError, match="paid for as vendor task T1"):
            world.secure(FakeVendor())


def test_a_separation_is_identified_by_what_was_asked_and_not_by_the_link_that_is_sent():
    asked = Track(key="one", audio_url="s3://music/one.wav")
    sent = asked.model_copy(update={"audio_url": "https://music.s3.amazonaws.com/one.wav?X-Amz-Signature=1"})
    separation = Separation(asked, sent, SeparationType.SEPARATE_VOCAL, None, "sunoapi")
    assert separation.identity.source == "s3://music/one.wav"
