"""The plan of a wait: deadline, poll interval and first read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import time_machine

from airflow_provider_vocalsep.operators.waiting import Wait, airflow_timeout
from airflow_provider_vocalsep.separation.polling import DEFAULT_POLL_INTERVAL, SAFETY_POLL_INTERVAL
from airflow_provider_vocalsep.separation.submitting import Submission

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False):
        yield


def plan(*, ago: float = 0, poll_interval=None, deferrable=True, timeout=3600, **secured) -> Wait:
    return Wait.plan(
        Submission("T1", NOW - timedelta(seconds=ago), **secured),
        timeout=timeout,
        poll_interval=poll_interval,
        deferrable=deferrable,
    )


class TestDeadline:
    def test_deadline_counts_from_the_submit(self):
        assert plan(ago=600).deadline == NOW.timestamp() + 3000

    def test_retry_after_the_deadline_waits_its_full_timeout(self):
        assert plan(ago=7200).deadline == NOW.timestamp() + 3600

    def test_airflows_timeout_is_later_than_the_deadline(self):
        wait = plan(poll_interval=30)

        timeout = airflow_timeout(wait.deadline, wait.poll_interval)
        assert timeout.total_seconds() > wait.deadline - NOW.timestamp() + 30


class TestReads:
    @pytest.mark.parametrize("not_given", [None, "", "None"])
    def test_default_interval_is_long_if_the_vendor_calls_back(self, not_given):
        assert plan(poll_interval=not_given, calls_back=True).poll_interval == SAFETY_POLL_INTERVAL
        assert plan(poll_interval=not_given).poll_interval == DEFAULT_POLL_INTERVAL

    def test_given_interval_is_used(self):
        assert plan(poll_interval="7.5", calls_back=True).poll_interval == 7.5

    def test_worker_that_waits_itself_uses_the_short_interval(self):
        wait = plan(calls_back=True, deferrable=False)

        assert (wait.calls_back, wait.poll_interval) == (False, DEFAULT_POLL_INTERVAL)

    def test_first_read_comes_at_once_unless_a_new_submit_is_called_back(self):
        assert not plan(calls_back=True, submitted_now=True).read_at_once
        assert plan(calls_back=True).read_at_once
        assert plan(submitted_now=True).read_at_once


class TestStr:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            (
                {"calls_back": True},
                "The vendor calls back; its record is read every 300 s in case it does not.",
            ),
            ({}, "Its record is read every 30 s."),
        ],
    )
    def test_text_for_the_log_names_deadline_and_interval(self, fields, says):
        assert str(plan(**fields)) == (
            f"Waiting for vendor task T1 until 2026-11-23T13:00:00+00:00; no worker is held. {says}"
        )
