from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    UnreadableAnswerError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.client.settings import ConnectionSettingsError
from airflow_provider_vocalsep.separation.polling import MAX_PAUSE, Ended, Poller, Sleep, WaitOutcome

LINK = StemLink("vocals", "https://cdn/v.mp3")


def poller(**kwargs) -> Poller:
    return Poller("T1", **{"poll_interval": 30, "deadline": 3600, "visible_by": 120, **kwargs})


def record(status: TaskStatus, *stems: StemLink, message: str | None = None) -> SeparationTask:
    return SeparationTask("T1", status, stems, error_message=message)


def refusal(verdict: Verdict, code: int = 500, retry_after: float | None = None) -> VendorError:
    return VendorError("the vendor said no.", verdict=verdict, code=code, retry_after=retry_after)


class TestARecord:
    def test_that_is_finished_ends_the_wait(self):
        assert poller().on_record(record(TaskStatus.SUCCESS, LINK), 0).outcome is WaitOutcome.FINISHED

    def test_whose_callback_failed_is_finished_if_the_stems_are_there(self):
        assert (
            poller().on_record(record(TaskStatus.CALLBACK_EXCEPTION, LINK), 0).outcome is WaitOutcome.FINISHED
        )
        assert poller().on_record(record(TaskStatus.CALLBACK_EXCEPTION), 0).outcome is WaitOutcome.FAILED

    @pytest.mark.parametrize("status", [TaskStatus.CREATE_TASK_FAILED, TaskStatus.GENERATE_AUDIO_FAILED])
    def test_of_a_failed_task_ends_the_wait_in_the_vendors_words(self, status):
        ended = poller().on_record(record(status, message="too noisy"), 0)
        assert ended.outcome is WaitOutcome.FAILED
        assert "too noisy" in ended.message

    def test_that_is_pending_is_read_again_after_the_interval(self):
        p = poller()
        p.on_record(record(TaskStatus.PENDING), 0)
        assert p.on_record(record(TaskStatus.PENDING), 20) == Sleep(30)

    def test_that_is_pending_first_is_read_again_in_a_phase_of_its_own(self):
        """A triggerer that starts with thousands of tracks must not read them all in the same second."""
        sleeps = {
            Poller(f"T{n}", poll_interval=30, deadline=3600, visible_by=0)
            .on_record(record(TaskStatus.PENDING), 0)
            .seconds
            for n in range(200)
        }
        assert min(sleeps) >= 15
        assert max(sleeps) <= 30
        assert len(sleeps) > 80
        again = Poller("T7", poll_interval=30, deadline=3600, visible_by=0)
        assert again.on_record(record(TaskStatus.PENDING), 0).seconds in sleeps


class TestAnUnknownId:
    def test_is_not_visible_yet_during_the_grace_period(self):
        assert isinstance(poller().on_record(None, 119), Sleep)

    def test_is_unknown_after_it(self):
        ended = poller().on_record(None, 120)
        assert ended.outcome is WaitOutcome.UNKNOWN
        assert "key and dialect" in ended.message

    @pytest.mark.parametrize("code", [404, 422])
    def test_may_be_said_by_a_code_as_the_documentation_has_it(self, code):
        assert isinstance(poller().on_error(refusal(Verdict.FATAL, code), 0), Sleep)
        assert poller().on_error(refusal(Verdict.FATAL, code), 121).outcome is WaitOutcome.UNKNOWN


class TestTrouble:
    PASSING = [
        pytest.param(UnreadableAnswerError("HTML"), id="html"),
        pytest.param(AnswerLostError("reset"), id="reset"),
        pytest.param(VendorUnreachableError("refused"), id="unreachable"),
        pytest.param(refusal(Verdict.RETRY), id="500"),
        pytest.param(refusal(Verdict.WAIT, 455), id="maintenance"),
        pytest.param(refusal(Verdict.OUT_OF_CREDITS, 429), id="out of credits does not touch what is paid"),
        pytest.param(RuntimeError("a bug"), id="anything else"),
    ]

    @pytest.mark.parametrize("error", PASSING)
    def test_that_passes_never_ends_the_wait_before_the_deadline(self, error):
        p, now = poller(), 0.0
        while now < 3600:
            step = p.on_error(error, now)
            assert isinstance(step, Sleep)
            assert str(error) in step.problem
            now += step.seconds
        ended = p.on_error(error, now)
        assert ended.outcome is WaitOutcome.GAVE_UP
        assert str(error) in ended.message

    def test_spaces_the_reads_out_and_calm_brings_them_back(self):
        p = poller(deadline=1e9)
        pauses = [p.on_error(AnswerLostError("x"), 0).seconds for _ in range(6)]
        assert pauses == [30, 60, 120, 240, MAX_PAUSE, MAX_PAUSE]
        assert p.on_record(record(TaskStatus.PENDING), 0).seconds == 30

    def test_waits_as_long_as_the_vendor_asks(self):
        assert poller().on_error(refusal(Verdict.WAIT, 429, retry_after=90), 0).seconds == 90

    @pytest.mark.parametrize(
        "error", [refusal(Verdict.FATAL, 401), ConnectionSettingsError("no key")], ids=["wrong key", "no key"]
    )
    def test_that_a_person_must_mend_ends_the_wait_and_says_that_nothing_is_lost(self, error):
        ended = poller().on_error(error, 0)
        assert ended.outcome is WaitOutcome.REFUSED
        assert str(error) in ended.message
        assert "stays paid" in ended.message


class TestTheDeadline:
    def test_has_its_last_read_at_the_deadline_itself(self):
        p = poller(deadline=100)
        p.on_record(record(TaskStatus.PENDING), 0)
        assert p.on_record(record(TaskStatus.PENDING), 90) == Sleep(10)
        assert p.on_record(record(TaskStatus.SUCCESS, LINK), 100).outcome is WaitOutcome.FINISHED

    def test_gives_up_without_calling_the_vendors_task_failed(self):
        ended = poller(deadline=100).on_record(record(TaskStatus.PENDING), 100)
        assert ended.outcome is WaitOutcome.GAVE_UP
        assert "a retry attaches to it" in ended.message

    @given(
        st.lists(st.sampled_from(["pending", "unknown", "html", "busy"]), min_size=1, max_size=200),
        st.floats(1, 600),
        st.floats(0, 5000),
    )
    def test_is_always_reached_whatever_the_answers(self, answers, interval, deadline):
        p, now = Poller("T1", poll_interval=interval, deadline=deadline, visible_by=60), 0.0
        for answer in answers * 20:
            if answer == "pending":
                step = p.on_record(record(TaskStatus.PENDING), now)
            elif answer == "unknown":
                step = p.on_record(None, now)
            else:
                step = p.on_error(
                    UnreadableAnswerError("x") if answer == "html" else refusal(Verdict.WAIT), now
                )
            if isinstance(step, Ended):
                assert step.outcome is WaitOutcome.UNKNOWN or now >= deadline
                return
            assert step.seconds > 0
            now += step.seconds
            assert now <= deadline + 1e-6
