"""A callback is a hint: the vendor task that it names is read and compared before it is adopted (M17, H3)."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_vocalsep.callbacks.inbox import BATCH_KEY, inbox_key
from tests.support.vendor import ACCEPT_AND_LOSE


@pytest.fixture(params=["single", "batch"])
def operator(request, bench):
    return bench.separate() if request.param == "single" else bench.batch(tracks=[TRACK])


TRACK = {"key": "one", "task_id": "t", "audio_id": "a"}


@pytest.fixture
def deferred(bench, vendor, callbacks, operator):
    """The paid task T1, whose answer was lost, and T2, which is somebody else's."""
    vendor.fates = [ACCEPT_AND_LOSE]
    deferred = bench.deferral(operator)
    vendor.finish("T1")
    vendor.records["T2"] = replace(
        vendor.records["T1"],
        task_id="T2",
        music_id="somebody else's audio",
        raw={"callbackUrl": "https://airflow.example.com/vocalsep/callback/another"},
    )
    return deferred


def deliver(bench, operator, *vendor_task_ids: str) -> None:
    """Store callbacks at the address of the lost submit, as the receiver does."""
    at = "2026-11-23T00:01:00+00:00"
    received = [
        {"vendor_task_id": task, "code": 200, "message": "", "first_at": at, "last_at": at}
        for task in vendor_task_ids
    ]
    attempt_id = bench.entry().current.attempt_id
    if hasattr(operator, "tracks"):
        bench.task_state.set(BATCH_KEY, {attempt_id: received})
    else:
        bench.task_state.set(inbox_key(attempt_id), received)


def resume(bench, operator, deferred) -> None:
    with suppress(TaskDeferred, Exception):
        bench.resume(operator, deferred, {})


class TestExecuteAdoption:
    def test_own_task_is_adopted_and_lands(self, bench, vendor, operator, deferred):  # M17, kept
        deliver(bench, operator, "T1")

        bench.resume(operator, deferred, {})

        assert bench.entry().landings
        assert (bench.entry().current.vendor_task_id, vendor.charges) == ("T1", 1)

    @pytest.mark.xfail(strict=True, reason="H3")
    def test_task_of_another_track_is_not_adopted(self, bench, vendor, operator, deferred):
        deliver(bench, operator, "T2")

        resume(bench, operator, deferred)

        assert bench.entry().current.vendor_task_id is None
        assert (bench.entry().landings, vendor.charges) == ({}, 1)

    @pytest.mark.xfail(strict=True, reason="H3")
    def test_right_one_of_several_candidates_is_adopted(self, bench, vendor, operator, deferred):
        deliver(bench, operator, "T2", "T1")

        resume(bench, operator, deferred)

        assert (bench.entry().current.vendor_task_id, vendor.charges) == ("T1", 1)

    @pytest.mark.xfail(strict=True, reason="M17")
    def test_task_that_the_vendor_does_not_know_is_not_adopted(self, bench, vendor, operator, deferred):
        deliver(bench, operator, "T9")

        resume(bench, operator, deferred)

        assert bench.entry().current.vendor_task_id is None

    @pytest.mark.xfail(strict=True, reason="M17")
    def test_task_whose_record_cannot_be_read_now_is_adopted_later(self, bench, vendor, operator, deferred):
        deliver(bench, operator, "T1")
        vendor.answers = [(200, b'{"code":500,"msg":"sorry"}')] * 4
        before = bench.entry().current.vendor_task_id
        resume(bench, operator, deferred)
        between = bench.entry().current.vendor_task_id

        vendor.answers = []
        bench.run(operator)

        assert (before, between) == (None, None)
        assert (bench.entry().current.vendor_task_id, vendor.charges) == ("T1", 1)

    @pytest.mark.parametrize(
        "difference",
        [{"music_id": "another audio"}, {"raw": {"callbackUrl": "https://elsewhere/token"}}],
        ids=["musicId", "callbackUrl"],
    )
    @pytest.mark.xfail(strict=True, reason="M17")
    def test_each_of_token_and_audio_must_match(self, bench, vendor, operator, deferred, difference):
        vendor.records["T1"] = replace(vendor.records["T1"], **difference)
        deliver(bench, operator, "T1")

        resume(bench, operator, deferred)

        assert bench.entry().current.vendor_task_id is None

    def test_record_without_audio_and_address_is_adopted(
        self, bench, vendor, operator, deferred
    ):  # own files
        vendor.records["T1"] = replace(vendor.records["T1"], music_id=None, raw={})
        deliver(bench, operator, "T1")

        resume(bench, operator, deferred)

        assert bench.entry().current.vendor_task_id == "T1"

    @pytest.mark.xfail(strict=True, reason="H9")
    def test_log_says_adopted_and_not_submitted_before(self, bench, operator, deferred, caplog):
        caplog.set_level(logging.INFO)
        deliver(bench, operator, "T1")

        resume(bench, operator, deferred)

        assert "adopting" in caplog.text
        assert "was submitted before" not in caplog.text
