from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.api.errors import OutOfCreditsError, StoppedError, Verdict
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.ledger import Ledger, LedgerError
from airflow_provider_vocalsep.operators.vocal_separation_batch import BatchFailedError
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.events import InvalidEventError
from tests.support.operator_bench import BUCKET, DESTINATION, FakeLander
from tests.support.vendor import ACCEPT_AND_LOSE


def ended(*vendor_task_ids: str, outcome: str = "finished") -> dict[str, object]:
    return {"ended": {task_id: [outcome, "words"] for task_id in vendor_task_ids}, "reads": 1}


class TestExecute:
    def test_new_tracks_are_paid_for_and_waited_for_by_one_trigger(self, bench, vendor):
        deferred = bench.deferral(bench.batch("one", "two", "three"))

        assert vendor.charges == 3
        assert isinstance(deferred.trigger, BatchTrigger)
        assert set(deferred.trigger.waiting) == {"T1", "T2", "T3"}
        assert deferred.method_name == "execute_complete"
        assert {row["state"] for row in bench.rows()[1].values()} == {"waiting"}

    def test_retry_attaches_to_what_is_paid_and_submits_what_is_not(self, bench, vendor):
        bench.deferral(bench.batch("one"))

        deferred = bench.deferral(bench.batch("one", "two"))

        assert vendor.charges == 2
        assert set(deferred.trigger.waiting) == {"T1", "T2"}

    def test_second_run_over_landed_tracks_pays_and_lands_nothing(self, bench, vendor):
        bench.deferral(bench.batch("one", "two"))
        vendor.finish("T1")
        vendor.finish("T2")
        bench.batch("one", "two").execute(bench.context())

        counts = bench.batch("one", "two").execute(bench.context())

        assert (counts["landed"], counts["submits"]) == (2, 0)
        assert (vendor.charges, FakeLander.landings) == (2, 2)

    def test_empty_batch_succeeds_and_says_so(self, bench, vendor):
        counts = bench.batch().execute(bench.context())

        assert (counts["tracks"], counts["landed"], vendor.calls) == (0, 0, 0)

    def test_track_that_is_listed_twice_is_paid_for_once(self, bench, vendor):
        bench.deferral(bench.batch("one", "one"))

        assert vendor.charges == 1

    def test_same_audio_under_two_keys_is_paid_for_once(self, bench, vendor):
        tracks = [{"key": key, "task_id": "t", "audio_id": "a"} for key in ("one", "two")]

        bench.deferral(bench.batch(tracks=tracks))

        assert vendor.charges == 1
        assert {row["vendor_task_id"] for row in bench.rows()[1].values()} == {"T1"}

    def test_unusable_tracks_fail_the_batch_by_number_before_anything_is_paid(self, bench, vendor):
        tracks = [{"key": "one", "task_id": "t", "audio_id": "a"}, {"key": "two"}]

        with pytest.raises(AirflowFailException, match=r"1 of 2 tracks cannot be used:\n  2: "):
            bench.batch(tracks=tracks).execute(bench.context())

        assert vendor.calls == 0

    def test_chunk_file_is_read_from_the_bucket(self, bench, vendor):
        line = json.dumps({"key": "one", "task_id": "t", "audio_id": "a"})
        bench.store.put(BUCKET, "chunk.jsonl", f"{line}\n".encode(), content_type="application/x-ndjson")

        bench.deferral(bench.batch(tracks=f"s3://{BUCKET}/chunk.jsonl"))

        assert vendor.charges == 1

    def test_chunk_file_that_is_missing_fails_with_its_address(self, bench):
        with pytest.raises(AirflowFailException, match=r"s3://stems/chunk.jsonl could not be read"):
            bench.batch(tracks=f"s3://{BUCKET}/chunk.jsonl").execute(bench.context())

    def test_budget_leaves_the_tracks_beyond_it(self, bench, vendor):
        deferred = bench.deferral(bench.batch("one", "two", "three", max_credits=20))

        assert set(deferred.trigger.waiting) == {"T1", "T2"}
        assert bench.rows()[1]["three"]["state"] == "left"

    def test_empty_account_leaves_all_tracks_and_asks_for_credits(self, bench, vendor):
        vendor.fates = [OutOfCreditsError("No credits.", verdict=Verdict.OUT_OF_CREDITS, code=402)]

        with pytest.raises(
            AirflowFailException, match=r"2 tracks were left: .*0 landed\. Top the account up"
        ):
            bench.batch("one", "two").execute(bench.context())

        assert vendor.calls == 1

    def test_lost_answer_fails_its_track_alone(self, bench, vendor):
        vendor.fates = [ACCEPT_AND_LOSE]

        deferred = bench.deferral(bench.batch("one", "two"))

        assert set(deferred.trigger.waiting) == {"T2"}
        assert "on_lost_submit='resubmit'" in bench.rows()[1]["one"]["message"]

    def test_lost_answer_is_awaited_by_the_same_trigger_where_the_vendor_calls_back(
        self, bench, vendor, callbacks
    ):
        vendor.fates = [ACCEPT_AND_LOSE]

        deferred = bench.deferral(bench.batch("one", "two"))

        row = bench.rows()[1]["one"]
        assert row["state"] == "in_doubt"
        assert deferred.trigger.in_doubt == [row["attempt_id"]]
        assert deferred.trigger.until is not None


class TestOnKill:
    def test_nothing_is_submitted_after_a_stop_and_the_retry_does_the_rest(self, bench, vendor):
        operator = bench.batch("one", "two", "three")
        vendor.on_submit = operator.on_kill

        with pytest.raises(StoppedError):
            operator.execute(bench.context())

        assert vendor.charges == 1
        vendor.on_submit = lambda: None
        assert set(bench.deferral(bench.batch("one", "two", "three")).trigger.waiting) == {"T1", "T2", "T3"}
        assert vendor.charges == 3


class TestExecuteInTheWorker:
    def test_worker_that_waits_itself_lands_all_without_deferring(self, bench, vendor):
        vendor.on_charge = vendor.finish

        counts = bench.batch("one", "two", deferrable=False).execute(bench.context())

        assert (counts["landed"], counts["submits"], counts["before"]) == (2, 2, 0)
        assert bench.rows()[0]["concluded"]

    def test_tracks_are_given_up_at_the_deadline(self, bench):
        operator = bench.batch("one", deferrable=False, timeout=0.05, poll_interval=0.01)

        with pytest.raises(BatchFailedError, match="Gave up waiting for vendor task T1"):
            operator.execute(bench.context())

        assert not bench.rows()[0]["concluded"]


class TestExecuteComplete:
    @pytest.fixture
    def operator(self, bench):
        return bench.batch("one", "two")

    @pytest.fixture
    def deferred(self, bench, operator):
        return bench.deferral(operator)

    def test_finished_tasks_land_and_the_counts_are_returned(self, bench, vendor, operator, deferred):
        vendor.finish("T1")
        vendor.finish("T2")

        counts = bench.resume(operator, deferred, ended("T1", "T2"))

        assert (counts["tracks"], counts["landed"], counts["failed"], counts["submits"]) == (2, 2, 0, 2)
        assert bench.rows()[0]["concluded"]
        assert operator.stems_link.endswith("music/")

    def test_tasks_under_way_are_waited_for_again(self, bench, vendor, operator, deferred):
        vendor.finish("T1")

        with pytest.raises(TaskDeferred) as again:
            bench.resume(operator, deferred, ended("T1"))

        assert set(again.value.trigger.waiting) == {"T2"}
        assert bench.rows()[1]["one"]["state"] == "landed"

    def test_lost_report_is_rebuilt_from_the_ledger(self, bench, vendor, operator, deferred):
        (report,) = [key for key in bench.keys() if "/runs/" in key]
        list(bench.store.delete(BUCKET, [report]))
        vendor.finish("T1")
        vendor.finish("T2")

        counts = bench.resume(operator, deferred, ended("T1", "T2"))

        assert (counts["landed"], vendor.charges) == (2, 2)

    def test_failure_beyond_max_failed_is_retried_while_airflow_has_tries(
        self, bench, vendor, operator, deferred
    ):
        vendor.finish("T1")
        vendor.finish("T2")
        FakeLander.error = LandingError("nothing landed", failures={"vocals": "404"})

        with pytest.raises(BatchFailedError, match=r"2 of 2 tracks failed:\n  one: (.*\n)+A retry does only"):
            bench.resume(operator, deferred, ended("T1", "T2"))

        assert not bench.rows()[0]["concluded"]

    def test_failure_on_the_last_try_asks_for_a_clear(self, bench, vendor, operator, deferred):
        bench.max_tries = 0
        vendor.fail("T1", code=451)
        vendor.finish("T2")

        with pytest.raises(AirflowFailException, match="Clear this task to try only the failed ones again"):
            bench.resume(operator, deferred, ended("T1", "T2"))

        assert bench.rows()[0]["concluded"]

    def test_failures_within_max_failed_succeed(self, bench, vendor):
        operator = bench.batch("one", "two", max_failed=1)
        deferred = bench.deferral(operator)
        vendor.fail("T1", code=451)
        vendor.finish("T2")

        counts = bench.resume(operator, deferred, ended("T1", "T2"))

        assert (counts["landed"], counts["failed"]) == (1, 1)

    @pytest.mark.parametrize(
        "code", [pytest.param(531, id="refunded"), pytest.param(429, id="out of credits")]
    )
    def test_failure_that_may_pass_is_submitted_again_in_the_same_leg(
        self, bench, vendor, operator, deferred, code
    ):
        vendor.fail("T1", code=code)
        vendor.finish("T2")

        with pytest.raises(TaskDeferred) as again:
            bench.resume(operator, deferred, ended("T1", "T2"))

        assert set(again.value.trigger.waiting) == {"T3"}

    def test_stems_of_a_landing_that_the_ledger_does_not_take_are_not_counted(
        self, bench, vendor, operator, deferred, monkeypatch
    ):
        def refuse(*_: object) -> None:
            raise LedgerError("the bucket is away")

        vendor.finish("T1")
        vendor.finish("T2")
        monkeypatch.setattr(Ledger, "record_landed", refuse)

        with pytest.raises(BatchFailedError, match="the bucket is away"):
            bench.resume(operator, deferred, ended("T1", "T2"))

        head, rows = bench.rows()
        assert (head["failed"], head["stems"], head["bytes"]) == (2, 0, 0)
        assert "manifest" not in rows["one"]

    def test_lost_answer_is_still_awaited_when_the_account_runs_empty(self, bench, vendor, callbacks):
        vendor.fates = [ACCEPT_AND_LOSE]
        operator = bench.batch("one", "two")
        deferred = bench.deferral(operator)
        vendor.fail("T2", code=531)
        vendor.fates = [OutOfCreditsError("No credits.", verdict=Verdict.OUT_OF_CREDITS, code=402)]

        with pytest.raises(TaskDeferred) as again:
            bench.resume(operator, deferred, ended("T2"))

        rows = bench.rows()[1]
        assert (rows["one"]["state"], rows["two"]["state"]) == ("in_doubt", "left")
        assert again.value.trigger.in_doubt == [rows["one"]["attempt_id"]]

    @pytest.mark.parametrize(
        "event", [{"ended": 3}, {"ended": {"T1": ["sung", "x"]}}, {"ended": {"T1": "x"}}]
    )
    def test_foreign_event_is_refused_and_retried(self, bench, operator, deferred, event):
        with pytest.raises(InvalidEventError, match="a retry goes on from the ledger") as refused:
            bench.resume(operator, deferred, event)

        assert isinstance(refused.value.__cause__, AttributeError | TypeError | ValueError)

    @pytest.mark.parametrize(("outcome", "final"), [("gave_up", None), ("unknown", None), ("refused", None)])
    def test_wait_that_ended_without_an_answer_fails_its_track(
        self, bench, vendor, operator, deferred, outcome, final
    ):
        vendor.finish("T2")
        event = ended("T2")
        event["ended"]["T1"] = [outcome, "no answer"]

        with pytest.raises((BatchFailedError, AirflowFailException), match="no answer"):
            bench.resume(operator, deferred, event)

        row = bench.rows()[1]["one"]
        assert (row["state"], row.get("final")) == ("failed", final)


def test_destination_is_checked_before_anything_is_paid(bench, vendor):
    with pytest.raises(AirflowFailException, match="there is no bucket 'nowhere'"):
        bench.batch("one", destination=DESTINATION.replace(BUCKET, "nowhere")).execute(bench.context())

    assert vendor.calls == 0
