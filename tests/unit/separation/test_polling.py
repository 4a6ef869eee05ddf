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
from airflow_provider_vocalsep.separation.polling import (
    MAX_PAUSE,
    PERSISTENT_FOR,
    PERSISTENT_READS,
    Ended,
    Poller,
    Sleep,
    WaitOutcome,
)

LINK = StemLink("vocals", "https://cdn/v.mp3")


def poller(**kwargs) -> Poller:
    return Poller("T1", **{"poll_interval": 30, "deadline": 3600, "visible_by": 120, **kwargs})


def record(status: TaskStatus, *stems: StemLink, message: str | None = None) -> SeparationTask:
    return SeparationTask("T1", status, stems, error_message=message)


PENDING = record(TaskStatus.PENDING)


def read_until_ended(read, start: float = 0) -> Ended:
    """Read as the poller says until the wait ends; return its end, which takes minutes and several reads."""
    p, now = poller(), start
    for reads in range(1, 100):
        step = read(p, now)
        if isinstance(step, Ended):
            assert reads >= PERSISTENT_READS
            assert now - start >= PERSISTENT_FOR
            return step
        now += step.seconds
    raise AssertionError("the wait does not end")


def refusal(verdict: Verdict, code: int = 500, retry_after: float | None = None) -> VendorError:
    return VendorError("the vendor said no.", verdict=verdict, code=code, retry_after=retry_after)


class TestOnRecord:
    def test_finished_task_ends_the_wait(self):
        ended = poller().on_record(record(TaskStatus.SUCCESS, LINK), 0)

        assert ended.outcome is WaitOutcome.FINISHED

    @pytest.mark.parametrize(
        ("stems", "outcome"),
        [((LINK,), WaitOutcome.FINISHED), ((), WaitOutcome.FAILED)],
        ids=["with stems", "without stems"],
    )
    def test_task_whose_callback_failed_is_finished_if_it_has_stems(self, stems, outcome):
        ended = poller().on_record(record(TaskStatus.CALLBACK_EXCEPTION, *stems), 0)

        assert ended.outcome is outcome

    @pytest.mark.parametrize("status", [TaskStatus.CREATE_TASK_FAILED, TaskStatus.GENERATE_AUDIO_FAILED])
    def test_failed_task_ends_the_wait_with_the_vendors_message(self, status):
        ended = poller().on_record(record(status, message="too noisy"), 0)

        assert ended.outcome is WaitOutcome.FAILED
        assert "too noisy" in ended.message

    def test_pending_task_is_read_again_after_the_interval(self):
        p = poller()
        p.on_record(PENDING, 0)

        assert p.on_record(PENDING, 20) == Sleep(30)

    def test_first_pauses_of_many_tasks_are_spread_over_half_the_interval(self):
        """A triggerer that starts with thousands of tracks must not read them all in the same second."""

        def first_pause(vendor_task_id: str) -> float:
            p = Poller(vendor_task_id, poll_interval=30, deadline=3600, visible_by=0)
            return p.on_record(PENDING, 0).seconds

        pauses = {first_pause(f"T{n}") for n in range(200)}

        assert min(pauses) >= 15
        assert max(pauses) <= 30
        assert len(pauses) > 80
        assert first_pause("T7") in pauses

    def test_unknown_id_is_not_visible_yet_before_the_grace_ends(self):
        assert isinstance(poller().on_record(None, 119), Sleep)

    def test_unknown_id_that_persists_after_the_grace_ends_the_wait(self):
        ended = read_until_ended(lambda p, now: p.on_record(None, now), start=120)

        assert ended.outcome is WaitOutcome.UNKNOWN
        assert "key and dialect" in ended.message

    def test_last_read_is_at_the_deadline_itself(self):
        p = poller(deadline=100)
        p.on_record(PENDING, 0)

        assert p.on_record(PENDING, 90) == Sleep(10)
        assert p.on_record(record(TaskStatus.SUCCESS, LINK), 100).outcome is WaitOutcome.FINISHED

    def test_pending_task_is_given_up_at_the_deadline_and_not_called_failed(self):
        ended = poller(deadline=100).on_record(PENDING, 100)

        assert ended.outcome is WaitOutcome.GAVE_UP
        assert "a retry attaches to it" in ended.message


class TestOnError:
    TRANSIENT = [
        pytest.param(UnreadableAnswerError("HTML"), id="html"),
        pytest.param(AnswerLostError("reset"), id="reset"),
        pytest.param(VendorUnreachableError("refused"), id="unreachable"),
        pytest.param(refusal(Verdict.RETRY), id="500"),
        pytest.param(refusal(Verdict.WAIT, 455), id="maintenance"),
        pytest.param(refusal(Verdict.OUT_OF_CREDITS, 429), id="out of credits does not touch what is paid"),
        pytest.param(RuntimeError("a bug"), id="anything else"),
    ]

    @pytest.mark.parametrize("error", TRANSIENT)
    def test_transient_error_never_ends_the_wait_before_the_deadline(self, error):
        p, now = poller(), 0.0

        while now < 3600:
            step = p.on_error(error, now)
            assert isinstance(step, Sleep)
            assert str(error) in step.problem
            now += step.seconds
        ended = p.on_error(error, now)

        assert ended.outcome is WaitOutcome.GAVE_UP
        assert str(error) in ended.message

    def test_pauses_grow_with_errors_until_a_record_is_read(self):
        p = poller(deadline=1e9)

        pauses = [p.on_error(AnswerLostError("x"), 0).seconds for _ in range(6)]

        assert pauses == [30, 60, 120, 240, MAX_PAUSE, MAX_PAUSE]
        assert p.on_record(PENDING, 0).seconds == 30

    def test_pause_is_as_long_as_the_vendor_asks(self):
        assert poller().on_error(refusal(Verdict.WAIT, 429, retry_after=90), 0).seconds == 90

    @pytest.mark.parametrize("code", [404, 422])
    def test_documented_code_of_an_unknown_id_means_unknown(self, code):
        assert isinstance(poller().on_error(refusal(Verdict.FATAL, code), 0), Sleep)
        ended = read_until_ended(lambda p, now: p.on_error(refusal(Verdict.FATAL, code), now), start=121)
        assert ended.outcome is WaitOutcome.UNKNOWN

    @pytest.mark.parametrize(
        "error", [refusal(Verdict.FATAL, 401), ConnectionSettingsError("no key")], ids=["wrong key", "no key"]
    )
    def test_refusal_that_persists_ends_the_wait_and_says_that_nothing_is_lost(self, error):
        ended = read_until_ended(lambda p, now: p.on_error(error, now))

        assert ended.outcome is WaitOutcome.REFUSED
        assert str(error) in ended.message
        assert "stays paid" in ended.message

    @pytest.mark.parametrize("bad", [None, refusal(Verdict.FATAL, 401), refusal(Verdict.FATAL, 404)], ids=str)
    def test_minute_of_refusals_in_the_middle_of_a_wait_does_not_end_it(self, bad):
        p = poller()
        p.on_record(record(TaskStatus.PENDING), 200)

        for now in range(230, 290, 15):
            step = p.on_record(None, now) if bad is None else p.on_error(bad, now)
            assert isinstance(step, Sleep)

        assert p.on_record(record(TaskStatus.SUCCESS, LINK), 290).outcome is WaitOutcome.FINISHED

    def test_task_that_was_seen_once_is_never_unknown(self):
        p = poller()
        p.on_record(record(TaskStatus.PENDING), 200)

        steps = [p.on_record(None, now) for now in range(230, 3000, 30)]

        assert all(isinstance(step, Sleep) for step in steps)


@given(
    st.lists(st.sampled_from(["pending", "unknown", "html", "busy"]), min_size=1, max_size=200),
    st.floats(1, 600),
    st.floats(0, 5000),
)
def test_wait_never_passes_its_deadline_whatever_the_answers(answers, interval, deadline):
    p, now = Poller("T1", poll_interval=interval, deadline=deadline, visible_by=60), 0.0

    for answer in answers * 20:
        if answer == "pending":
            step = p.on_record(PENDING, now)
        elif answer == "unknown":
            step = p.on_record(None, now)
        else:
            step = p.on_error(UnreadableAnswerError("x") if answer == "html" else refusal(Verdict.WAIT), now)
        if isinstance(step, Ended):
            assert step.outcome is WaitOutcome.UNKNOWN or now >= deadline
            return
        assert step.seconds > 0
        now += step.seconds
        assert now <= deadline + 1e-6
