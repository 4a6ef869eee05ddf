"""A submit whose answer was lost, where the vendor calls back: it is paid once, and found again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from jobs_world import ME, ME_AGAIN, OTHER_RUN, FakeVendor, Killed, World

from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback, CallbackChannel
from airflow_provider_vocalsep.separation.submitting import LostSubmitError, OnLostSubmit

GRACE = 900


class Line:
    """What the vendor was told to call, and what came."""

    def __init__(self) -> None:
        self.heard: dict[str, str] = {}
        self.line = CallbackChannel(lambda attempt: f"https://airflow/{attempt}", self.heard.get, GRACE)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def line():
    return Line()


@pytest.fixture(params=["accept and lose", "accept and die"], ids=["answer lost", "worker killed"])
def lost(request, world, line):
    """A vendor that was paid and whose answer nobody has."""
    vendor = FakeVendor(request.param)
    with pytest.raises((AwaitingCallback, Killed)):
        world.secure(vendor, line=line.line)
    return vendor


def events(world):
    return [event.event for event in world.entry.history]


class TestALostSubmit:
    def test_is_awaited_and_the_message_says_what_and_until_when(self, world, line, lost):
        claimed_at = world.entry.current.claimed_at
        with pytest.raises(
            AwaitingCallback, match=r"'one' may have been paid.*Nothing is submitted"
        ) as caught:
            world.secure(lost, ME_AGAIN, line=line.line)

        assert caught.value.until == claimed_at + timedelta(seconds=GRACE)
        assert caught.value.attempt_id == world.entry.current.attempt_id
        assert caught.value.until.isoformat(timespec="seconds") in str(caught.value)
        assert lost.charges == 1

    def test_is_adopted_when_its_callback_has_come(self, world, line, lost):
        line.heard[world.entry.current.attempt_id] = "T1"
        secured = world.secure(lost, ME_AGAIN, line=line.line)

        assert (secured.vendor_task_id, secured.submitted_now, secured.calls_back) == ("T1", False, True)
        assert lost.charges == 1
        assert world.entry.state is EntryState.SUBMITTED
        assert events(world)[-1] == "adopted"

    def test_is_adopted_once(self, world, line, lost):
        line.heard[world.entry.current.attempt_id] = "T1"
        for _ in range(3):
            assert world.secure(lost, ME_AGAIN, line=line.line).vendor_task_id == "T1"

        assert events(world).count("adopted") == 1
        assert lost.charges == 1

    @pytest.mark.parametrize(
        ("policy", "charges"),
        [(OnLostSubmit.ADOPT, 1), (OnLostSubmit.RESUBMIT, 2)],
        ids=["adopt", "resubmit"],
    )
    def test_whose_callback_never_comes_ends_as_on_lost_submit_says(self, world, line, lost, policy, charges):
        world.now += timedelta(seconds=GRACE)
        if policy is OnLostSubmit.RESUBMIT:
            assert world.secure(lost, ME_AGAIN, policy, line.line).submitted_now
        else:
            with pytest.raises(LostSubmitError, match="on_lost_submit='resubmit'"):
                world.secure(lost, ME_AGAIN, policy, line.line)

        assert lost.charges == charges

    def test_is_not_awaited_when_told_to_fail(self, world, line, lost):
        line.heard[world.entry.current.attempt_id] = "T1"
        with pytest.raises(LostSubmitError):
            world.secure(lost, ME_AGAIN, OnLostSubmit.FAIL, line.line)

    def test_of_another_task_instance_is_not_awaited_and_the_message_names_that(self, world, line, lost):
        line.heard[world.entry.current.attempt_id] = "T1"
        with pytest.raises(LostSubmitError, match=r"d/r1/separate.*clear that task instance first"):
            world.secure(lost, OTHER_RUN, line=line.line)
        assert lost.charges == 1

    def test_is_not_awaited_once_callbacks_are_switched_off(self, world, lost):
        with pytest.raises(LostSubmitError):
            world.secure(lost, ME_AGAIN)


def test_a_submit_from_before_callbacks_were_switched_on_is_not_awaited(world, line):
    vendor = FakeVendor("accept and die")
    with pytest.raises(Killed):
        world.secure(vendor)
    with pytest.raises(LostSubmitError):
        world.secure(vendor, ME_AGAIN, line=line.line)


def test_the_vendor_is_given_the_address_of_its_attempt(world, line):
    vendor = FakeVendor()
    secured = world.secure(vendor, line=line.line)

    assert vendor.callback_url == f"https://airflow/{secured.attempt_id}"
    assert secured.calls_back


def test_who_attaches_is_called_back_only_if_it_is_the_one_that_submitted(world, line):
    vendor = FakeVendor()
    world.secure(vendor, ME, line=line.line)

    assert world.secure(vendor, ME_AGAIN, line=line.line).calls_back
    assert not world.secure(vendor, OTHER_RUN, line=line.line).calls_back
