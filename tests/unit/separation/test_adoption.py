"""Submits whose answer was lost and whose vendor calls back: paid once, and adopted."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta

import pytest

from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit
from airflow_provider_vocalsep.separation.submitting import LostSubmitError
from tests.support.ledger_bench import ME, ME_AGAIN, OTHER_RUN, FakeCallbacks, LedgerBench
from tests.support.vendor import FakeVendor, Killed

GRACE = 900


@pytest.fixture
def bench():
    return LedgerBench()


@pytest.fixture
def callbacks():
    return FakeCallbacks()


@pytest.fixture(params=["accept and lose", "accept and die"], ids=["answer lost", "worker killed"])
def lost(request, bench, callbacks):
    """A vendor that was paid and whose answer was lost."""
    vendor = FakeVendor(request.param)
    with suppress(Killed):
        assert isinstance(bench.secure(vendor, callbacks=callbacks), AwaitingCallback)
    return vendor


def events(bench):
    return [event.event for event in bench.entry.history]


class TestAdopt:
    def test_callback_is_awaited_and_the_message_says_for_what_and_until_when(self, bench, callbacks, lost):
        claimed_at = bench.entry.current.claimed_at

        awaiting = bench.secure(lost, ME_AGAIN, callbacks=callbacks)

        assert re.match(r"Track 'one' may have been paid.*Nothing is submitted", awaiting.message)
        assert awaiting.until == claimed_at + timedelta(seconds=GRACE)
        assert awaiting.attempt_id == bench.entry.current.attempt_id
        assert awaiting.until.isoformat(timespec="seconds") in awaiting.message
        assert lost.charges == 1

    def test_vendor_task_is_adopted_when_its_callback_has_come(self, bench, callbacks, lost):
        callbacks.received[bench.entry.current.attempt_id] = "T1"

        secured = bench.secure(lost, ME_AGAIN, callbacks=callbacks)

        assert (secured.vendor_task_id, secured.submitted_now, secured.calls_back) == ("T1", False, True)
        assert lost.charges == 1
        assert bench.entry.state is EntryState.SUBMITTED
        assert events(bench)[-2:] == ["adopted", "called_back"]

    def test_vendor_task_is_adopted_once(self, bench, callbacks, lost):
        callbacks.received[bench.entry.current.attempt_id] = "T1"

        for _ in range(3):
            assert bench.secure(lost, ME_AGAIN, callbacks=callbacks).vendor_task_id == "T1"

        assert events(bench).count("adopted") == 1
        assert lost.charges == 1

    @pytest.mark.parametrize(
        ("policy", "charges"),
        [(OnLostSubmit.ADOPT, 1), (OnLostSubmit.RESUBMIT, 2)],
        ids=["adopt", "resubmit"],
    )
    def test_callback_that_never_comes_leaves_the_decision_to_on_lost_submit(
        self, bench, callbacks, lost, policy, charges
    ):
        bench.now += timedelta(seconds=GRACE)

        if policy is OnLostSubmit.RESUBMIT:
            assert bench.secure(lost, ME_AGAIN, policy, callbacks).submitted_now
        else:
            with pytest.raises(LostSubmitError, match="on_lost_submit='resubmit'"):
                bench.secure(lost, ME_AGAIN, policy, callbacks)

        assert lost.charges == charges

    def test_fail_policy_awaits_no_callback(self, bench, callbacks, lost):
        callbacks.received[bench.entry.current.attempt_id] = "T1"

        with pytest.raises(LostSubmitError):
            bench.secure(lost, ME_AGAIN, OnLostSubmit.FAIL, callbacks)

    def test_callback_of_another_task_instance_is_not_awaited_and_the_error_names_it(
        self, bench, callbacks, lost
    ):
        callbacks.received[bench.entry.current.attempt_id] = "T1"

        with pytest.raises(LostSubmitError, match=r"d/r1/separate.*clear that task instance first"):
            bench.secure(lost, OTHER_RUN, callbacks=callbacks)

        assert lost.charges == 1

    def test_lost_submit_is_not_awaited_once_callbacks_are_switched_off(self, bench, lost):
        with pytest.raises(LostSubmitError):
            bench.secure(lost, ME_AGAIN)


def test_lost_submit_from_before_callbacks_were_switched_on_is_not_awaited(bench, callbacks):
    vendor = FakeVendor("accept and die")
    with pytest.raises(Killed):
        bench.secure(vendor)

    with pytest.raises(LostSubmitError):
        bench.secure(vendor, ME_AGAIN, callbacks=callbacks)


def test_submit_gives_the_vendor_the_address_of_its_attempt(bench, callbacks):
    vendor = FakeVendor()

    secured = bench.secure(vendor, callbacks=callbacks)

    assert vendor.callback_url == f"https://airflow/{secured.attempt_id}"
    assert secured.calls_back


def test_only_the_task_instance_that_submitted_is_called_back(bench, callbacks):
    vendor = FakeVendor()
    bench.secure(vendor, ME, callbacks=callbacks)

    assert bench.secure(vendor, ME_AGAIN, callbacks=callbacks).calls_back
    assert not bench.secure(vendor, OTHER_RUN, callbacks=callbacks).calls_back
