from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

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
from airflow_provider_vocalsep.ledger.claims import IN_FLIGHT
from tests.support.manual_clock import START, ManualClock

IDENTITY = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
MANIFEST = "s3://stems/one/separate_vocal/manifest.json"
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", map_index=3, try_number=1)
ME_AGAIN = ME.model_copy(update={"try_number": 2})
OTHER_RUN = ME.model_copy(update={"run_id": "r2"})


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def ledger(clock):
    return Ledger(MemoryLedgerStore(), now=clock)


def intent(attempt_id: str, asked_by: TaskInstanceRef = ME, fingerprint: str = "") -> Intent:
    return Intent(
        attempt_id=attempt_id, asked_by=asked_by, track_key="one", fingerprint=fingerprint, title="One"
    )


def outcome(verdict: Verdict, *, final: bool = False) -> Outcome:
    return Outcome(at=START, verdict=verdict, code=500, message="m", final=final)


def event_names(ledger: Ledger) -> list[str]:
    return [event.event for event in ledger.read(IDENTITY).history]


def land(ledger: Ledger) -> None:
    ledger.claim(IDENTITY, intent("a1"))
    ledger.record_submitted(IDENTITY, "a1", "T1")
    ledger.record_separated(IDENTITY, "T1", ME)
    landing = Landing(at=ledger.now(), vendor_task_id="T1", stems=2, bytes=10)
    ledger.record_landed(IDENTITY, MANIFEST, landing, ME)


class TestClaim:
    def test_new_separation_may_submit_after_its_attempt_is_written(self, ledger):
        assert ledger.claim(IDENTITY, intent("a1")) == Submit("a1")

        entry = ledger.read(IDENTITY)
        assert entry.state is EntryState.CLAIMED
        assert (entry.current.attempt_id, entry.current.asked_by, entry.current.vendor_task_id) == (
            "a1",
            ME,
            None,
        )
        assert (entry.track_key, entry.title) == ("one", "One")

    def test_repeated_claim_of_one_attempt_still_holds(self, ledger):
        """The store accepted the first write and lost its answer: the repeated claim must not be in doubt."""
        ledger.claim(IDENTITY, intent("a1"))

        assert ledger.claim(IDENTITY, intent("a1")) == Submit("a1")
        assert len(ledger.read(IDENTITY).attempts) == 1

    @pytest.mark.parametrize("asked_by", [ME_AGAIN, OTHER_RUN], ids=["a retry", "a second run"])
    def test_submitted_separation_attaches(self, ledger, clock, asked_by):
        ledger.claim(IDENTITY, intent("a1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")

        assert ledger.claim(IDENTITY, intent("a2", asked_by)) == Attach("T1", clock.now, "a1")
        assert len(ledger.read(IDENTITY).attempts) == 1

    def test_retry_of_the_same_task_instance_is_in_doubt_at_once(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))

        decision = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))

        assert isinstance(decision, InDoubt)
        assert not decision.in_flight

    def test_submit_of_another_run_is_in_flight_until_its_time_is_over(self, ledger, clock):
        ledger.claim(IDENTITY, intent("a1"))

        assert ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight

        clock.now += IN_FLIGHT
        assert not ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight

    def test_renewed_claim_stays_in_flight(self, ledger, clock):
        ledger.claim(IDENTITY, intent("a1"))
        clock.now += IN_FLIGHT - timedelta(seconds=1)
        ledger.renew(IDENTITY, "a1")
        clock.now += timedelta(seconds=2)

        assert ledger.claim(IDENTITY, intent("a2", OTHER_RUN)).in_flight

    def test_landed_separation_is_landed_at_its_destination_and_attaches_at_another(self, ledger, clock):
        land(ledger)

        assert ledger.claim(IDENTITY, intent("a2"), manifest_uri=MANIFEST) == Landed("T1", clock.now, "a1")
        assert ledger.claim(IDENTITY, intent("a3"), manifest_uri="s3://x/m.json") == Attach(
            "T1", clock.now, "a1"
        )

    def test_changed_audio_is_a_new_purchase(self, ledger):
        ledger.claim(IDENTITY, intent("a1", fingerprint="etag-1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")

        assert ledger.claim(IDENTITY, intent("a2", fingerprint="etag-2")) == Submit("a2")
        assert "changed" in ledger.read(IDENTITY).history[-1].message

    def test_failed_separation_may_submit_again_and_keeps_its_first_attempt(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))

        ledger.record_refused(IDENTITY, "a1", outcome(Verdict.FATAL).model_copy(update={"final": True}))

        assert ledger.read(IDENTITY).state is EntryState.FAILED
        assert ledger.claim(IDENTITY, intent("a2")) == Submit("a2")
        assert [a.attempt_id for a in ledger.read(IDENTITY).attempts] == ["a1", "a2"]


class TestTakeOver:
    def test_new_attempt_submits_in_place_of_a_lost_one(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))

        assert ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN)) == Submit("a2")
        assert event_names(ledger) == ["claimed", "submit_given_up", "claimed"]

    def test_late_claim_of_the_lost_attempt_does_not_undo_the_take_over(self, ledger):
        """Its own write was answered with a conflict; meanwhile another attempt took the claim over."""
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))

        with pytest.raises(ClaimLostError, match="a1 was given up"):
            ledger.claim(IDENTITY, intent("a1"))
        with pytest.raises(ClaimLostError, match="a1 was given up"):
            ledger.take_over(IDENTITY, ledger.read(IDENTITY).current, intent("a1"))
        assert [a.attempt_id for a in ledger.read(IDENTITY).attempts] == ["a1", "a2"]

    def test_lost_attempt_can_no_longer_renew_its_claim(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))

        with pytest.raises(ClaimLostError):
            ledger.renew(IDENTITY, "a1")

    def test_attempt_that_was_answered_meanwhile_is_not_taken_over(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.record_submitted(IDENTITY, "a1", "T1")

        with pytest.raises(ClaimLostError):
            ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))

    def test_late_answer_to_the_lost_attempt_is_recorded_and_undoes_nothing(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        doubt = ledger.claim(IDENTITY, intent("a2", ME_AGAIN))
        ledger.take_over(IDENTITY, doubt.attempt, intent("a2", ME_AGAIN))
        ledger.record_submitted(IDENTITY, "a2", "T2")

        ledger.record_submitted(IDENTITY, "a1", "T1")

        entry = ledger.read(IDENTITY)
        assert [a.vendor_task_id for a in entry.attempts] == ["T1", "T2"]
        assert entry.current.vendor_task_id == "T2"


class TestLateRecords:
    def test_late_failure_leaves_a_landed_entry_landed(self, ledger):
        land(ledger)

        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))

        assert ledger.read(IDENTITY).state is EntryState.LANDED

    def test_separated_after_landed_changes_nothing(self, ledger):
        land(ledger)
        before = ledger.read(IDENTITY)

        ledger.record_separated(IDENTITY, "T1", ME)

        assert ledger.read(IDENTITY) == before

    def test_failure_recorded_by_two_runs_is_one_event(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        ledger.record_submitted(IDENTITY, "a1", "T1")
        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))

        ledger.record_task_failed(IDENTITY, "T1", outcome(Verdict.RETRY))

        assert event_names(ledger) == ["claimed", "submitted", "failed"]


class TestHistory:
    def test_history_has_every_step(self, ledger):
        land(ledger)

        assert event_names(ledger) == ["claimed", "submitted", "separated", "landed"]

    def test_repeated_skipped_events_are_counted_in_one(self, ledger, clock):
        land(ledger)
        for night in range(365):
            clock.now += timedelta(days=1)
            ledger.append_event(IDENTITY, "skipped", by=ME.model_copy(update={"run_id": f"night-{night}"}))

        last = ledger.read(IDENTITY).history[-1]
        assert (last.event, last.count, last.by.run_id) == ("skipped", 365, "night-364")
        assert last.last_at - last.at == timedelta(days=364)
        assert len(ledger.read(IDENTITY).history) == 5

    def test_fields_of_a_newer_version_survive_a_change(self, ledger):
        ledger.claim(IDENTITY, intent("a1"))
        entry, version = ledger.store.read(IDENTITY)
        entry.listened_to = 7
        ledger.store.write(IDENTITY, entry, version)

        ledger.record_submitted(IDENTITY, "a1", "T1")

        assert ledger.read(IDENTITY).listened_to == 7


class TestCountFailedSubmissions:
    def pay_and_fail(
        self, ledger, number: int, verdict: Verdict = Verdict.RETRY, *, final: bool = False, asked_by=ME
    ):
        ledger.claim(IDENTITY, intent(f"a{number}", asked_by))
        ledger.record_submitted(IDENTITY, f"a{number}", f"T{number}")
        count = ledger.count_failed_submissions(IDENTITY, asked_by, f"T{number}")
        ledger.record_task_failed(IDENTITY, f"T{number}", outcome(verdict, final=final))
        return count

    def test_paid_failures_in_a_row_are_counted(self, ledger):
        assert [self.pay_and_fail(ledger, n) for n in (1, 2, 3)] == [1, 2, 3]

    def test_refunded_failures_are_not_counted(self, ledger):
        self.pay_and_fail(ledger, 1, Verdict.REFUNDED)

        assert self.pay_and_fail(ledger, 2) == 1

    def test_count_restarts_after_a_final_failure(self, ledger):
        """After a final failure Airflow does not retry: only a person or a new DAG run submits again."""
        self.pay_and_fail(ledger, 1)
        self.pay_and_fail(ledger, 2, final=True)

        assert self.pay_and_fail(ledger, 3) == 1

    def test_failures_of_another_run_are_not_counted(self, ledger):
        self.pay_and_fail(ledger, 1, asked_by=OTHER_RUN)

        assert self.pay_and_fail(ledger, 2) == 1


class TestIdentity:
    @pytest.mark.parametrize(
        "one, other",
        [
            pytest.param(
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Signature=1&X-Amz-Date=2",
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Signature=3&X-Amz-Date=4",
                id="a new presigned URL",
            ),
            pytest.param("https://h/a.mp3#t=1", "https://h/a.mp3", id="a fragment"),
        ],
    )
    def test_urls_of_one_file_have_one_identity(self, one, other):
        assert self.of(Track(key="k", audio_url=one)) == self.of(Track(key="k", audio_url=other))

    def test_identity_does_not_depend_on_key_and_title(self):
        one = Track(key="one", task_id="t", audio_id="a")

        assert self.of(one) == self.of(one.model_copy(update={"key": "two", "title": "Two"}))

    def test_identity_differs_by_query_account_type_and_stem_name(self):
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


def test_deleted_entry_is_an_error_and_not_a_new_claim(ledger):
    with pytest.raises(LedgerError, match="deleted while the separation is under way"):
        ledger.record_submitted(IDENTITY, "a1", "T1")


class TestRecordCallbacks:
    def call_back(self, ledger, attempt_id: str = "a1", count: int = 1, task: str = "T1") -> None:
        callback = Event(
            at=START,
            event="called_back",
            by=ME,
            attempt_id=attempt_id,
            vendor_task_id=task,
            code=200,
            count=count,
        )
        ledger.record_callbacks(IDENTITY, lambda one: [callback] if one == attempt_id else [])

    def claim(self, ledger, attempt_id: str = "a1") -> None:
        ledger.claim(IDENTITY, replace(intent(attempt_id), calls_back=True))

    def test_repeated_callback_is_one_event_with_its_highest_count(self, ledger):
        self.claim(ledger)
        for count in (1, 1, 3, 2):
            self.call_back(ledger, count=count)

        assert event_names(ledger) == ["claimed", "called_back"]
        assert ledger.read(IDENTITY).history[-1].count == 3

    def test_callback_about_another_vendor_task_is_another_event(self, ledger):
        self.claim(ledger)
        self.call_back(ledger)
        self.call_back(ledger, task="T2")

        assert event_names(ledger) == ["claimed", "called_back", "called_back"]
        assert ledger.read(IDENTITY).state is EntryState.CLAIMED

    def test_callback_about_an_earlier_attempt_is_recorded_during_the_next(self, ledger):
        self.claim(ledger)
        ledger.record_submitted(IDENTITY, "a1", "T1")
        ledger.record_task_failed(IDENTITY, "T1", Outcome(at=ledger.now(), verdict=Verdict.RETRY))
        self.claim(ledger, "a2")
        self.call_back(ledger)

        entry = ledger.read(IDENTITY)
        assert (entry.history[-1].event, entry.history[-1].attempt_id) == ("called_back", "a1")
        assert entry.state is EntryState.CLAIMED
