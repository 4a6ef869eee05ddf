from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Attach,
    ClaimLostError,
    EntryState,
    Event,
    Identity,
    InDoubt,
    Intent,
    Landed,
    Landing,
    Ledger,
    LedgerError,
    MemoryLedgerStore,
    Outcome,
    Submit,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.transitions import IN_FLIGHT

IDENTITY = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
MANIFEST = "s3://stems/one/separate_vocal/manifest.json"
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", map_index=3, try_number=1)
ME_AGAIN = ME.model_copy(update={"try_number": 2})
OTHER_RUN = ME.model_copy(update={"run_id": "r2"})


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return Ledger(MemoryLedgerStore(), now=clock)


def intent(attempt_id: str, asker: TaskInstanceRef = ME, fingerprint: str = "") -> Intent:
    return Intent(
        attempt_id=attempt_id, asked_by=asker, track_key="one", fingerprint=fingerprint, title="One"
    )


def outcome(verdict: Verdict, *, final: bool = False) -> Outcome:
    return Outcome(
        at=datetime(2026, 11, 23, tzinfo=timezone.utc), verdict=verdict, code=500, message="m", final=final
    )


def events(ledger: Ledger) -> list[str]:
    return [event.event for event in ledger.read(IDENTITY).history]


class TestClaim:
    def test_of_a_new_separation_may_submit_and_the_intent_is_written_first(self, ledger):
        assert ledger.claim(IDENTITY, intent("a1")) == Submit("a1")
        entry = ledger.read(IDENTITY)
        assert entry.state is EntryState.CLAIMED
        assert (entry.current.attempt_id, entry.current.asked_by, entry.current.vendor_task_id) == (
            "a1",
            ME,
            None,
        )
        assert (entry.track_key, entry.title) == ("one", "One")

    def test_repeated_with_the_same_intent_is_still_ours(self, ledger):
        """The store took the first write and lost its answer; the second try of it must not look like doubt."""
        ledger.claim(IDENTITY, intent("a1"))
        assert ledger.claim(IDENTITY, intent("a1")) == Submit("a1")
        assert len(ledger.read(IDENTITY).attempts) == 1

    @pytest.mark.parametrize("asker", [ME_AGAIN, OTHER_RUN], ids=["a retry", "a second run"])
    def test_of_a_submitted_one_attaches(self, ledger, clock, asker):
        ledger.claim(IDENTITY, intent("a1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")
        assert ledger.claim(IDENTITY, intent("a2", asker)) == Attach("T1", clock.now, "a1")
        assert len(ledger.read(IDENTITY).attempts) == 1

    def test_by_a_retry_of_the_same_task_instance_is_in_doubt_at_once(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        decision = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        assert isinstance(decision, InDoubt)
        assert not decision.in_flight

    def test_by_another_run_waits_while_the_submit_may_still_be_answered(self, ledger, clock):
        ledger.claim(IDENTITY, intent("a1"))
        assert ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight
        clock.now += IN_FLIGHT
        assert not ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight

    def test_renewed_before_each_send_stays_in_flight(self, ledger, clock):
        ledger.claim(IDENTITY, intent("a1"))
        clock.now += IN_FLIGHT - timedelta(seconds=1)
        ledger.renew(IDENTITY, "a1")
        clock.now += timedelta(seconds=2)
        assert ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight

    def test_of_a_landed_one_says_so_for_its_place_and_attaches_for_another(self, ledger, clock):
        landed(ledger)
        assert ledger.claim(IDENTITY, intent("a2"), manifest_uri=MANIFEST) == Landed("T1", clock.now, "a1")
        assert ledger.claim(IDENTITY, intent("a3"), manifest_uri="s3://x/m.json") == Attach(
            "T1", clock.now, "a1"
        )

    def test_of_audio_that_has_changed_is_a_new_purchase(self, ledger):
        ledger.claim(IDENTITY, intent("a1", fingerprint="etag-1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")
        assert ledger.claim(IDENTITY, intent("a2", fingerprint="etag-2")) == Submit("a2")
        assert "changed" in ledger.read(IDENTITY).history[-1].message

    def test_of_a_failed_one_may_submit_anew_and_keeps_the_first_attempt(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        ledger.record_failed(IDENTITY, "a1", outcome(Verdict.FATAL), event="submit_refused")
        assert ledger.read(IDENTITY).state is EntryState.FAILED
        assert ledger.claim(IDENTITY, intent("a2")) == Submit("a2")
        assert [a.attempt_id for a in ledger.read(IDENTITY).attempts] == ["a1", "a2"]


class TestTakeOver:
    def test_lets_a_new_attempt_submit_in_place_of_a_lost_one(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        assert ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN)) == Submit("a2")
        assert events(ledger) == ["claimed", "submit_given_up", "claimed"]

    def test_is_not_undone_by_a_claim_that_learns_late_that_it_was_written(self, ledger):
        """Its own write was answered with a conflict; meanwhile somebody else gave it up."""
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))
        with pytest.raises(ClaimLostError, match="a1 was given up"):
            ledger.claim(IDENTITY, intent("a1"))
        with pytest.raises(ClaimLostError, match="a1 was given up"):
            ledger.take_over(IDENTITY, ledger.read(IDENTITY).current, intent("a1"))
        assert [a.attempt_id for a in ledger.read(IDENTITY).attempts] == ["a1", "a2"]

    def test_stops_the_first_attempt_from_submitting_once_more(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))
        with pytest.raises(ClaimLostError):
            ledger.renew(IDENTITY, "a1")

    def test_is_refused_when_the_answer_came_meanwhile(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.record_submitted(IDENTITY, "a1", "T1")
        with pytest.raises(ClaimLostError):
            ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))

    def test_a_late_answer_to_the_first_is_kept_and_undoes_nothing(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))
        ledger.record_submitted(IDENTITY, "a2", "T2")
        ledger.record_submitted(IDENTITY, "a1", "T1")
        entry = ledger.read(IDENTITY)
        assert [a.vendor_task_id for a in entry.attempts] == ["T1", "T2"]
        assert entry.current.vendor_task_id == "T2"


class TestLateRecordsNeverUndo:
    def test_a_failure_of_an_older_task_leaves_a_landed_entry_landed(self, ledger):
        landed(ledger)
        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))
        assert ledger.read(IDENTITY).state is EntryState.LANDED

    def test_separated_after_landed_changes_nothing(self, ledger):
        landed(ledger)
        before = ledger.read(IDENTITY)
        ledger.record_separated(IDENTITY, "T1", ME)
        assert ledger.read(IDENTITY) == before

    def test_the_same_failure_told_by_two_runs_is_one_event(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")
        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))
        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))
        assert events(ledger) == ["claimed", "submitted", "failed"]


class TestHistory:
    def test_tells_the_whole_way(self, ledger):
        landed(ledger)
        assert events(ledger) == ["claimed", "submitted", "separated", "landed"]

    def test_counts_quiet_events_instead_of_growing(self, ledger, clock):
        landed(ledger)
        for night in range(365):
            clock.now += timedelta(days=1)
            ledger.append_event(IDENTITY, "skipped", by=ME.model_copy(update={"run_id": f"night-{night}"}))
        last = ledger.read(IDENTITY).history[-1]
        assert (last.event, last.count, last.by.run_id) == ("skipped", 365, "night-364")
        assert last.last_at - last.at == timedelta(days=364)
        assert len(ledger.read(IDENTITY).history) == 5

    def test_of_a_newer_version_keeps_what_it_brought(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        entry, version = ledger.store.read(IDENTITY)
        entry.listened_to = 7
        ledger.store.write(IDENTITY, entry, version)
        ledger.record_submitted(IDENTITY, "a1", "T1")
        assert ledger.read(IDENTITY).listened_to == 7


class TestFailedSubmissions:
    def pay_and_fail(
        self, ledger, number: int, verdict: Verdict = Verdict.RETRY, *, final: bool = False, asker=ME
    ):
        ledger.claim(IDENTITY, intent(f"a{number}", asker))
        ledger.record_submitted(IDENTITY, f"a{number}", f"T{number}")
        count = ledger.count_failed_submissions(IDENTITY, asker, f"T{number}")
        ledger.record_task_failed(IDENTITY, f"T{number}", outcome(verdict, final=final))
        return count

    def test_counts_what_was_paid_for_in_a_row(self, ledger):
        assert [self.pay_and_fail(ledger, n) for n in (1, 2, 3)] == [1, 2, 3]

    def test_leaves_out_what_was_refunded(self, ledger):
        self.pay_and_fail(ledger, 1, Verdict.REFUNDED)
        assert self.pay_and_fail(ledger, 2) == 1

    def test_starts_anew_after_a_final_failure(self, ledger):
        """Only a person, or a new run, comes back after Airflow was told not to retry."""
        self.pay_and_fail(ledger, 1)
        self.pay_and_fail(ledger, 2, final=True)
        assert self.pay_and_fail(ledger, 3) == 1

    def test_does_not_count_what_another_run_paid(self, ledger):
        self.pay_and_fail(ledger, 1, asker=OTHER_RUN)
        assert self.pay_and_fail(ledger, 2) == 1


class TestIdentity:
    @pytest.mark.parametrize(
        "one, other",
        [
            pytest.param(
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Signature=1&X-Amz-Date=2",
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Signature=3&X-Amz-Date=4",
                id="a new presigned link",
            ),
            pytest.param("https://h/a.mp3#t=1", "https://h/a.mp3", id="a fragment"),
        ],
    )
    def test_of_the_same_file_is_the_same(self, one, other):
        assert self.of(Track(key="k", audio_url=one)) == self.of(Track(key="k", audio_url=other))

    def test_does_not_depend_on_what_the_user_calls_the_track(self):
        one = Track(key="one", task_id="t", audio_id="a")
        assert self.of(one) == self.of(one.model_copy(update={"key": "two", "title": "Two"}))

    def test_differs_by_query_account_type_and_stem_name(self):
        track = Track(key="k", audio_url="https://h/get?file=1")
        digests = {
            self.of(track).digest,
            self.of(Track(key="k", audio_url="https://h/get?file=2")).digest,
            self.of(track, account="other").digest,
            self.of(track, separation_type=SeparationType.SPLIT_STEM).digest,
            self.of(track, separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name="Kick").digest,
            self.of(track, separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name="Snare").digest,
        }
        assert len(digests) == 6

    def of(self, track, *, account="sunoapi", separation_type=SeparationType.SEPARATE_VOCAL, stem_name=None):
        return Identity.of(track, account=account, separation_type=separation_type, stem_name=stem_name)


def test_an_entry_that_vanishes_under_way_is_an_error_and_not_a_new_claim(ledger):
    with pytest.raises(LedgerError, match="gone while it is under way"):
        ledger.record_submitted(IDENTITY, "a1", "T1")


def landed(ledger: Ledger) -> None:
    ledger.claim(IDENTITY, intent("a1"))
    ledger.record_submitted(IDENTITY, "a1", "T1")
    ledger.record_separated(IDENTITY, "T1", ME)
    landing = Landing(at=ledger.now(), vendor_task_id="T1", stems=2, bytes=10)
    ledger.record_landed(IDENTITY, MANIFEST, landing, ME)


class TestACallback:
    def call_back(self, ledger, attempt_id: str = "a1", count: int = 1, task: str = "T1") -> None:
        line = Event(at=datetime(2026, 11, 23, tzinfo=timezone.utc), event="called_back", by=ME, attempt_id=attempt_id,
                     vendor_task_id=task, code=200, count=count)  # fmt: skip
        ledger.record_callbacks(IDENTITY, lambda one: [line] if one == attempt_id else [])

    def claim(self, ledger, attempt_id: str = "a1") -> None:
        ledger.claim(IDENTITY, replace(intent(attempt_id), calls_back=True))

    def test_is_one_line_of_the_history_however_often_it_is_looked_at(self, ledger):
        self.claim(ledger)
        for count in (1, 1, 3, 2):
            self.call_back(ledger, count=count)
        assert events(ledger) == ["claimed", "called_back"]
        assert ledger.read(IDENTITY).history[-1].count == 3

    def test_about_another_vendor_task_is_another_line(self, ledger):
        self.claim(ledger)
        self.call_back(ledger)
        self.call_back(ledger, task="T2")
        assert events(ledger) == ["claimed", "called_back", "called_back"]
        assert ledger.read(IDENTITY).state is EntryState.CLAIMED

    def test_about_an_earlier_attempt_is_kept_when_the_next_is_under_way(self, ledger):
        self.claim(ledger)
        ledger.record_submitted(IDENTITY, "a1", "T1")
        ledger.record_task_failed(IDENTITY, "T1", Outcome(at=ledger.now(), verdict=Verdict.RETRY))
        self.claim(ledger, "a2")
        self.call_back(ledger)
        entry = ledger.read(IDENTITY)
        assert (entry.history[-1].event, entry.history[-1].attempt_id) == ("called_back", "a1")
        assert entry.state is EntryState.CLAIMED
