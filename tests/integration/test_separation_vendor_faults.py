"""Faults of the vendor: nothing is paid twice, and each message says what to do next."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.separation.track_job import SeparationFailedError
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError

WAITING = "airflow_provider_vocalsep.operators.waiting"
POLLING = "airflow_provider_vocalsep.separation.polling"


class TestSubmit:
    @pytest.mark.parametrize("kind", ["html", "truncated", "accept_then_drop"])
    def test_submit_without_a_readable_answer_is_not_sent_again_without_a_decision(self, bench, faulty, kind):
        faulty("submit", kind, times=1)
        first = bench.refusal(AirflowFailException)
        paid = bench.submits
        assert paid == (1 if kind == "accept_then_drop" else 0)

        retry = bench.refusal(AirflowFailException)
        assert bench.submits == paid
        for message in (first, retry):
            assert "'daisy-bell'" in message
            assert "on_lost_submit='resubmit'" in message
            assert "_vocalsep/ledger/" in message

        assert set(bench.separate(on_lost_submit="resubmit")["stems"]) == {"vocals", "instrumental"}
        assert bench.submits == paid + 1

    def test_submit_refused_as_too_fast_is_sent_again_after_a_pause(self, bench, faulty):
        faulty("submit", "code", code=430, times=2)
        bench.separate()

        assert bench.submits == 1

    def test_submit_refused_for_credits_fails_at_once(self, bench, faulty):
        faulty("submit", "code", code=429, message="The current credits are insufficient.")
        message = bench.refusal(AirflowFailException)

        assert "'daisy-bell'" in message
        assert "out of credits" in message
        assert bench.submits == 0


class TestWait:
    @pytest.mark.parametrize("kind", ["html", "truncated", "null", "http_429"])
    def test_transient_errors_do_not_end_the_wait(self, bench, faulty, kind):
        faulty("read", kind, times=3)
        bench.separate()

        assert bench.submits == 1

    def test_unknown_task_fails_and_names_key_and_dialect(self, bench, faulty, monkeypatch):
        monkeypatch.setattr(f"{WAITING}.VISIBILITY_GRACE", 1)
        monkeypatch.setattr(f"{POLLING}.PERSISTENT_READS", 1)
        monkeypatch.setattr(f"{POLLING}.PERSISTENT_FOR", 0)
        faulty("read", "null")
        message = bench.refusal(WaitGivenUpError)

        assert "'daisy-bell'" in message
        assert "key and dialect" in message
        assert bench.submits == 1

    def test_finished_task_without_stems_is_read_again_by_the_retry(self, bench, faulty, sandbox):
        faulty("read", "no_urls")
        message = bench.refusal(LandingError)
        assert "'daisy-bell'" in message
        assert "offers none" in message

        sandbox.clear_faults()
        bench.separate()
        assert bench.submits == 1


class TestVendorTask:
    def test_task_whose_callback_failed_lands(self, bench, faulty):
        faulty("task", "callback_exception")

        assert set(bench.separate()["stems"]) == {"vocals", "instrumental"}

    def test_task_whose_callback_failed_without_stems_is_not_paid_again(self, bench, faulty):
        faulty("task", "callback_exception_without_urls")
        with pytest.raises((LandingError, SeparationFailedError, AirflowFailException), match="'daisy-bell'"):
            bench.separate()
        assert bench.submits == 1

    def test_task_that_fails_for_its_source_is_not_retried(self, bench, faulty):
        faulty("task", "fail", code=451, message="cannot fetch the file")
        message = bench.refusal(AirflowFailException)

        assert "'daisy-bell'" in message
        assert "451: cannot fetch the file" in message

    @pytest.mark.parametrize("code", [500, 531])
    def test_task_that_fails_once_is_paid_again_by_the_retry(self, bench, faulty, code):
        faulty("task", "fail", code=code, message="bad luck", times=1)
        message = bench.refusal(SeparationFailedError)
        assert "'daisy-bell'" in message
        assert "bad luck" in message
        assert ("given back" in message) is (code == 531)

        bench.separate()
        assert bench.submits == 2

    def test_task_that_fails_every_time_is_paid_max_submissions_times(self, bench, faulty):
        faulty("task", "fail", code=500, message="bad luck")
        bench.refusal(SeparationFailedError)
        message = bench.refusal(AirflowFailException)

        assert "max_submissions" in message
        assert bench.submits == 2

    def test_task_that_never_ends_is_given_up_and_the_retry_attaches(self, bench, faulty, sandbox):
        faulty("task", "stuck", times=1)
        message = bench.refusal(WaitGivenUpError, timeout=1)
        assert "'daisy-bell'" in message
        assert "a retry attaches to it" in message

        bench.refusal(WaitGivenUpError, timeout=1)
        assert bench.submits == 1
