"""No single read ends a wait for what is paid, in operators, sensor and transfer."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    TaskDeferred,
)
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_provider_vocalsep.callbacks.inbox import BATCH_KEY, inbox_key
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError
from tests.support.operator_bench import FakeLander
from tests.support.vendor import ODD_ANSWERS, RECORD

#: Reads of a task under way, over more than the two minutes in which an id may not be visible yet.
SEEN = [RECORD] * 7

#: An answer that is known to pass: the bench must show that waits survive it.
BUSY_PAGE = (502, b"<html>bad gateway</html>")

odd_answers = pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)


@pytest.fixture(params=["single", "batch"])
def operator(request, bench):
    return bench.separate() if request.param == "single" else bench.batch("one")


def has_landed(result) -> bool:
    return bool(result.get("manifest")) or result.get("landed") == 1


def called_back(operator) -> dict[str, object]:
    """Return the event with which the receiver resumes an operator."""
    single = {"status": "called_back", "vendor_task_id": "T1", "message": ""}
    return {} if hasattr(operator, "tracks") else single


def deliver_callback(bench, operator) -> None:
    """Store the callback about T1, as the receiver does."""
    at, attempt_id = "2026-11-23T00:01:00+00:00", next(iter(bench.entries().values())).current.attempt_id
    received = [{"vendor_task_id": "T1", "code": 200, "message": "", "first_at": at, "last_at": at}]
    if hasattr(operator, "tracks"):
        bench.task_state.set(BATCH_KEY, {attempt_id: received})
    else:
        bench.task_state.set(inbox_key(attempt_id), received)


class TestTheWait:
    @odd_answers
    def test_one_odd_read_after_six_good_ones_does_not_end_it(self, bench, vendor, operator, odd):
        deferred = bench.deferral(operator)
        vendor.finish()
        vendor.answers = [*self.pending(), odd]

        assert has_landed(bench.finish(operator, deferred))
        assert vendor.charges == 1

    @odd_answers
    def test_a_minute_of_odd_reads_does_not_end_it(self, bench, vendor, operator, odd):
        deferred = bench.deferral(operator)
        vendor.finish()
        vendor.answers = [*self.pending(), odd, odd, odd]

        assert has_landed(bench.finish(operator, deferred))
        assert vendor.charges == 1

    @pytest.mark.parametrize("reads", [1, 3])
    def test_gateway_errors_do_not_end_it(self, bench, vendor, operator, reads):  # M3, kept
        deferred = bench.deferral(operator)
        vendor.finish()
        vendor.answers = [*self.pending(), *[BUSY_PAGE] * reads]

        assert has_landed(bench.finish(operator, deferred))

    @odd_answers
    def test_odd_reads_without_end_leave_the_paid_task_to_airflows_retry(self, bench, vendor, operator, odd):
        deferred = bench.deferral(operator)
        vendor.finish()
        vendor.answers = [*self.pending(), *[odd] * 1000]

        with pytest.raises(Exception) as raised:
            bench.finish(operator, deferred)

        assert not isinstance(raised.value, AirflowFailException | AssertionError)
        vendor.answers = []
        assert has_landed(bench.run(operator))
        assert vendor.charges == 1

    @staticmethod
    def pending():
        record = b'{"code":200,"data":{"taskId":"T1","successFlag":"PENDING","response":null}}'
        return [(200, record)] * len(SEEN)


class TestTheReadAfterACallback:
    """H1: it is made seconds after the callback, and may meet a replica that lags behind."""

    @odd_answers
    def test_odd_read_is_made_again_and_the_track_lands_in_the_same_try(self, bench, vendor, operator, odd):
        deferred = bench.deferral(operator)
        deliver_callback(bench, operator)
        vendor.finish()
        vendor.answers = [odd]

        try:
            result = bench.resume(operator, deferred, called_back(operator))
        except TaskDeferred as again:
            result = bench.finish(operator, again)

        assert has_landed(result)
        assert (vendor.charges, bench.tries) == (1, 1)

    @pytest.mark.xfail(strict=True, reason="H5")
    def test_callback_and_failed_read_are_in_the_history(self, bench, vendor, operator, callbacks):
        deferred = bench.deferral(operator)
        deliver_callback(bench, operator)
        vendor.answers = [(200, b'{"code":500,"msg":"the vendor is sorry"}')]

        with suppress(Exception):
            bench.resume(operator, deferred, called_back(operator))

        assert "called_back" in bench.events()
        assert any("the vendor is sorry" in (event.message or "") for event in bench.entry().history)

    @pytest.mark.xfail(strict=True, reason="H9")
    def test_failed_read_says_that_the_track_is_paid(self, bench, vendor):
        operator = bench.separate()
        deferred = bench.deferral(operator)
        vendor.answers = [(200, b'{"code":500,"msg":"the vendor is sorry"}')]

        with pytest.raises(Exception, match="paid") as raised:
            bench.resume(operator, deferred, called_back(operator))

        assert "the vendor is sorry" in str(raised.value)


class TestAttaching:
    """A retry or another DAG run reads the record before it waits."""

    @odd_answers
    def test_odd_first_read_of_a_retry_is_waited_out(self, bench, vendor, operator, odd):  # M10 for data null
        bench.deferral(operator)
        vendor.finish()
        vendor.answers = [odd]

        assert has_landed(bench.run(operator))
        assert vendor.charges == 1

    def test_other_run_waits_for_a_task_that_is_not_visible_yet(self, bench, vendor, operator):  # M10
        bench.deferral(operator)
        vendor.answers = [ODD_ANSWERS["data null"]]

        deferred = bench.another_run().deferral(operator)

        assert deferred.method_name == "execute_complete"
        assert vendor.charges == 1

    def test_second_name_of_one_audio_waits_for_a_task_that_is_not_visible_yet(self, bench, vendor):  # M10
        vendor.answers = [ODD_ANSWERS["data null"]]
        tracks = [{"key": key, "task_id": "t", "audio_id": "a"} for key in ("one", "two")]

        bench.deferral(bench.batch(tracks=tracks))

        assert {row["state"] for row in bench.rows()[1].values()} == {"waiting"}
        assert vendor.charges == 1


class TestAFailureThatMayNotBeOne:
    """H4: a record may say CALLBACK_EXCEPTION, or SUCCESS, before it has the links."""

    @pytest.mark.xfail(strict=True, reason="H4")
    def test_callback_exception_without_links_is_waited_out(self, bench, vendor, operator):
        deferred = bench.deferral(operator)
        vendor.fail_callback()
        # The links come while the task waits on.
        bench.on_sleep = lambda _: vendor.finish() if vendor.reads > 2 else None

        assert has_landed(bench.finish(operator, deferred))
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="H4")
    def test_callback_exception_without_links_is_never_paid_for_again(self, bench, vendor, operator):
        deferred = bench.deferral(operator)
        vendor.fail_callback()

        for _ in range(3):
            with suppress(Exception):
                bench.finish(operator, deferred)
            with suppress(Exception):
                deferred = bench.deferral(operator)

        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="H4")
    def test_task_that_was_once_a_success_is_not_bought_again(self, bench, vendor, operator):
        deferred = bench.deferral(operator)
        vendor.finish(with_links=False)
        with pytest.raises(Exception, match="no links"):
            bench.resume(operator, deferred, bench.wait(deferred))
        vendor.fail_callback()

        with suppress(TaskDeferred, Exception):
            operator.execute(bench.context())

        assert vendor.charges == 1
        vendor.finish()
        assert has_landed(bench.run(operator))
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="H4")
    def test_task_that_was_once_a_success_and_fails_later_names_the_way_out(self, bench, vendor):
        deferred = bench.deferral(bench.separate())
        vendor.finish(with_links=False)
        with pytest.raises(Exception, match="no links"):
            bench.resume(bench.separate(), deferred, bench.wait(deferred))
        vendor.fail(code=500)

        for _ in range(2):
            with pytest.raises(Exception, match="reopen"):
                bench.run(bench.separate())

        assert vendor.charges == 1


class TestAPassingFailureInABatch:
    """H6: max_failed is for tracks that do fail, not for those that a second try would land."""

    @pytest.fixture
    def deferred(self, bench, vendor):
        deferred = bench.deferral(bench.batch("one", "two", max_failed=1))
        vendor.finish("T1")
        vendor.finish("T2")
        return deferred

    @pytest.mark.xfail(strict=True, reason="H6")
    def test_landing_that_fails_once_is_tried_again_in_the_same_try(self, bench, vendor, deferred):
        FakeLander.errors = [LandingError("one file was cut off", failures={"vocals": "cut off"})]

        counts = bench.finish(bench.batch("one", "two", max_failed=1), deferred)

        assert (counts["landed"], counts["failed"]) == (2, 0)

    @pytest.mark.xfail(strict=True, reason="H6")
    @pytest.mark.parametrize("answer", [BUSY_PAGE, (200, b"<html>")], ids=["502", "page"])
    def test_read_that_fails_once_is_made_again_in_the_same_try(self, bench, vendor, deferred, answer):
        event = bench.wait(deferred)
        vendor.answers = [answer]
        operator = bench.batch("one", "two", max_failed=1)

        try:
            counts = bench.resume(operator, deferred, event)
        except TaskDeferred as again:
            counts = bench.finish(operator, again)

        assert (counts["landed"], counts["failed"]) == (2, 0)

    def test_failure_for_good_within_max_failed_stays_one(self, bench, vendor, deferred):  # H6, kept
        vendor.fail("T1", code=451)

        counts = bench.finish(bench.batch("one", "two", max_failed=1), deferred)

        assert (counts["landed"], counts["failed"], vendor.charges) == (1, 1, 2)


class TestARefundedFailure:
    @pytest.mark.xfail(strict=True, reason="M11")
    def test_vendor_that_always_refunds_is_not_asked_for_ever_in_one_try(self, bench, vendor):
        operator, deferred = bench.batch("one"), bench.deferral(bench.batch("one"))

        def refund(_: float) -> None:
            for vendor_task_id in vendor.records:
                vendor.fail(vendor_task_id, code=531)

        bench.on_sleep = refund

        with pytest.raises(Exception, match="531"):
            bench.finish(operator, deferred)

        assert vendor.charges <= 5

    @pytest.mark.xfail(strict=True, reason="H9")
    def test_log_does_not_promise_a_retry_and_submit_at_once(self, bench, vendor, caplog):
        deferred = bench.deferral(bench.batch("one"))
        vendor.fail(code=531)

        with pytest.raises(TaskDeferred):
            bench.resume(bench.batch("one"), deferred, bench.wait(deferred))

        assert vendor.charges == 2
        assert "a retry submits it again" not in caplog.text


class TestAPassedDeadline:
    @pytest.mark.xfail(strict=True, reason="H9")
    def test_row_of_a_batch_names_the_track(self, bench):
        deferred = bench.deferral(bench.batch("one"))

        with pytest.raises(Exception, match="deadline"):
            bench.finish(bench.batch("one"), deferred)

        assert "'one'" in bench.rows()[1]["one"]["message"]


class TestSensor:
    @pytest.fixture
    def submitted(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.answers = TestTheWait.pending()
        vendor.finish()

    @pytest.fixture(params=[True, False], ids=["deferred", "poking"])
    def wait(self, request, bench):
        sensor = VocalSeparationSensor(task_id="wait", vendor_task_id="T1", timeout=3600)

        def poke() -> dict[str, object]:
            for _ in range(60):
                answer = sensor.poke({})
                if answer.is_done:
                    return answer.xcom_value
                bench.sleep(30)
            raise AssertionError("the sensor pokes for ever")

        return (lambda: bench.run(sensor)) if request.param else poke

    @odd_answers
    def test_odd_reads_in_the_middle_of_a_wait_do_not_fail_it(self, vendor, submitted, wait, odd):
        vendor.answers += [odd, odd]

        assert wait()["status"] == "SUCCESS"

    @odd_answers
    def test_odd_read_after_a_callback_does_not_fail_it(self, bench, vendor, submitted, odd):
        sensor = VocalSeparationSensor(task_id="wait", vendor_task_id="T1", timeout=3600)
        deferred = bench.deferral(sensor)
        vendor.answers = [odd]

        try:
            outcome = bench.resume(sensor, deferred, called_back(sensor))
        except TaskDeferred as again:
            outcome = bench.finish(sensor, again)

        assert outcome["status"] == "SUCCESS"

    def test_id_that_the_vendor_never_knew_fails_while_poking(self, bench):  # M16, kept
        sensor = VocalSeparationSensor(task_id="wait", vendor_task_id="typo", timeout=3600)

        def poke_for_ever() -> None:
            while not sensor.poke({}).is_done:
                bench.sleep(30)

        with pytest.raises(WaitGivenUpError, match="does not know"):
            poke_for_ever()

    @pytest.mark.xfail(strict=True, reason="M16")
    def test_id_that_the_vendor_never_knew_fails_in_reschedule_mode_too(self, bench):
        """Each reschedule is a process of its own; Airflow knows when the first one poked."""
        first_poke = bench.now()
        ti = SimpleNamespace(
            get_first_reschedule_date=lambda _: first_poke, task_reschedule_count=1, try_number=1, max_tries=0
        )

        def poke_in_new_processes() -> None:
            for _ in range(40):
                sensor = VocalSeparationSensor(
                    task_id="wait", vendor_task_id="typo", deferrable=False, mode="reschedule", timeout=86400
                )
                with suppress(AirflowRescheduleException):
                    sensor.execute({"ti": ti, "task_reschedule_count": 1})
                bench.sleep(30)

        with pytest.raises(WaitGivenUpError, match="does not know"):
            poke_in_new_processes()
