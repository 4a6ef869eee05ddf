from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SeparationFailedError,
    StoppedError,
    VendorError,
    Verdict,
    VocalSepError,
)
from airflow_provider_vocalsep.callbacks.inbox import inbox_key
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError
from airflow_provider_vocalsep.triggers.events import InvalidEventError
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger
from tests.support.operator_bench import BUCKET, FakeLander, OperatorBench
from tests.support.vendor import ACCEPT_AND_LOSE, FakeVendor

FINISHED = {"status": "finished", "vendor_task_id": "T1", "message": "done", "reads": 1}


def ended(status: str, **fields: object) -> dict[str, object]:
    return {**FINISHED, "status": status, **fields}


def receive_callback(bench: OperatorBench, vendor_task_id: str = "T1") -> None:
    """Store a callback about the current attempt, as the receiver does."""
    at, attempt_id = "2026-11-25T10:00:00+00:00", bench.entry().current.attempt_id
    callback = {"vendor_task_id": vendor_task_id, "code": 200, "message": "", "first_at": at, "last_at": at}
    bench.task_state.set(inbox_key(attempt_id), [callback])


class TestExecute:
    def test_new_track_is_paid_for_once_and_waited_for_in_the_triggerer(self, bench, vendor):
        deferred = bench.deferral(bench.separate())

        assert vendor.charges == 1
        assert isinstance(deferred.trigger, VocalSeparationTrigger)
        assert deferred.trigger.vendor_task_id == "T1"
        assert deferred.method_name == "execute_complete"
        assert bench.xcom["vendor_task_id"] == "T1"
        assert bench.events() == ["claimed", "submitted"]

    def test_deferral_leaves_a_waiting_row_in_the_run_report(self, bench):
        bench.deferral(bench.separate())

        head, rows = bench.rows()
        assert not head["concluded"]
        assert (rows["one"]["state"], rows["one"]["vendor_task_id"], head["submits"]) == ("waiting", "T1", 1)

    def test_retry_attaches_to_the_vendor_task_and_pays_nothing(self, bench, vendor):
        bench.deferral(bench.separate())

        deferred = bench.deferral(bench.separate())

        assert deferred.trigger.vendor_task_id == "T1"
        assert vendor.charges == 1
        assert bench.events() == ["claimed", "submitted", "attached"]

    def test_retry_lands_a_task_that_has_ended_without_deferring(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.finish()

        summary = bench.separate().execute(bench.context())

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert bench.events()[-2:] == ["separated", "landed"]

    def test_landed_track_returns_its_manifest_and_reads_nothing_of_the_vendor(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.finish()
        first = bench.separate().execute(bench.context())
        reads = vendor.reads

        again = bench.separate().execute(bench.context())

        assert again == first
        assert (vendor.charges, vendor.reads, FakeLander.landings) == (1, reads, 1)

    def test_landed_track_with_a_missing_stem_lands_again_and_pays_nothing(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.finish()
        uri = bench.separate().execute(bench.context())["stems"]["vocals"]["uri"]
        list(bench.store.delete(BUCKET, [uri.removeprefix(f"s3://{BUCKET}/")]))

        bench.separate().execute(bench.context())

        assert (vendor.charges, FakeLander.landings) == (1, 2)

    def test_replace_lands_again_from_the_task_that_is_paid_for(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.finish()
        bench.separate().execute(bench.context())

        bench.separate(if_landed="replace").execute(bench.context())

        assert (vendor.charges, FakeLander.landings) == (1, 2)

    def test_without_waiting_the_submit_is_returned(self, bench):
        submitted = bench.separate(wait_for_completion=False).execute(bench.context())

        assert submitted == {"vendor_task_id": "T1", "status": "SUBMITTED", "stems": {}}
        assert bench.rows()[0]["concluded"]

    def test_without_a_destination_a_retry_attaches_by_the_task_state_store(self, bench, vendor):
        bench.deferral(bench.separate(destination=None))
        vendor.finish()

        outcome = bench.separate(destination=None).execute(bench.context())

        assert (outcome["status"], set(outcome["stems"])) == ("SUCCESS", {"vocals", "instrumental"})
        assert vendor.charges == 1
        assert bench.keys() == []

    def test_missing_bucket_fails_before_anything_is_paid(self, bench, vendor):
        with pytest.raises(AirflowFailException, match="there is no bucket 'nowhere'"):
            bench.separate(destination="s3://nowhere/music").execute(bench.context())

        assert vendor.calls == 0

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"track": {"key": "one"}}, "audio_url"),
            ({"if_landed": "sometimes"}, "if_landed is 'skip' or 'replace'"),
            ({"on_lost_submit": "hope"}, "on_lost_submit is 'adopt', 'resubmit' or 'fail'"),
            ({"separation_type": "karaoke"}, "separate_vocal"),
            ({"destination": "/data/stems"}, "is not an address in S3"),
        ],
        ids=["track", "if_landed", "on_lost_submit", "separation_type", "destination"],
    )
    def test_wrong_argument_fails_at_once_and_says_which(self, bench, vendor, arguments, said):
        with pytest.raises(AirflowFailException, match=said):
            bench.separate(**arguments).execute(bench.context())

        assert vendor.calls == 0

    def test_empty_account_fails_at_once_and_the_retry_pays_once_it_is_filled(self, bench, vendor):
        vendor.fates = [OutOfCreditsError("No credits.", verdict=Verdict.OUT_OF_CREDITS, code=402)]
        with pytest.raises(AirflowFailException, match=r"'one' was not submitted\. No credits"):
            bench.separate().execute(bench.context())

        bench.deferral(bench.separate())

        assert vendor.charges == 1

    def test_failed_task_that_was_refunded_is_left_to_airflows_retry(self, bench, vendor):
        bench.deferral(bench.separate())
        vendor.fail(code=531)

        with pytest.raises(SeparationFailedError, match="credits were given back; a retry submits it again"):
            bench.separate().execute(bench.context())

        assert (bench.rows()[1]["one"]["state"], bench.rows()[0]["concluded"]) == ("failed", False)
        bench.deferral(bench.separate())
        assert vendor.charges == 2


class TestExecuteInTheWorker:
    def test_worker_that_waits_itself_lands_without_deferring(self, bench, vendor):
        vendor.on_charge = vendor.finish

        summary = bench.separate(deferrable=False).execute(bench.context())

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert bench.events() == ["claimed", "submitted", "separated", "landed"]
        assert (bench.rows()[0]["concluded"], bench.rows()[1]["one"]["state"]) == (True, "landed")

    def test_passed_deadline_is_retried(self, bench):
        with pytest.raises(WaitGivenUpError, match="'one': Gave up waiting for vendor task T1"):
            bench.separate(deferrable=False, timeout=0.05, poll_interval=0.01).execute(bench.context())

        assert bench.events()[-1] == "wait_ended"
        assert not bench.rows()[0]["concluded"]

    def test_lost_submit_is_adopted_when_its_callback_comes(self, bench, vendor, callbacks):
        def callback_comes(_: float) -> None:
            receive_callback(bench)
            vendor.finish()

        bench.on_sleep = callback_comes
        vendor.fates = [ACCEPT_AND_LOSE]

        summary = bench.separate(deferrable=False).execute(bench.context())

        assert summary["vendor_task_id"] == "T1"
        assert bench.events()[1:4] == ["submit_lost", "adopted", "called_back"]
        assert vendor.charges == 1


class TestLineage:
    AUDIO = [("https://api.sunoapi.org", "t/a")]

    def inputs(self, operator) -> list[tuple[str, str]]:
        return [(dataset.namespace, dataset.name) for dataset in operator.lineage.inputs]

    def test_submit_without_waiting_has_the_audio_and_the_vendor_task(self, bench):
        operator = bench.separate(wait_for_completion=False)

        operator.execute(bench.context())

        assert (self.inputs(operator), operator.lineage.vendor_task_id) == (self.AUDIO, "T1")

    def test_failed_separation_has_the_audio_and_the_vendor_task(self, bench, vendor):
        operator = bench.separate()
        deferred = bench.deferral(operator)
        vendor.fail(code=451)
        resumed = bench.separate()

        with pytest.raises(AirflowFailException):
            bench.resume(resumed, deferred, ended("failed"))

        assert (self.inputs(resumed), resumed.lineage.vendor_task_id) == (self.AUDIO, "T1")

    def test_failed_landing_has_the_audio_and_the_vendor_task(self, bench, vendor):
        deferred = bench.deferral(bench.separate())
        vendor.finish()
        FakeLander.error = LandingError("vocals did not land", failures={"vocals": "404"})
        resumed = bench.separate()

        with pytest.raises(LandingError):
            bench.resume(resumed, deferred, FINISHED)

        assert (self.inputs(resumed), resumed.lineage.vendor_task_id) == (self.AUDIO, "T1")


class TestExecuteWithALostAnswer:
    @pytest.fixture
    def vendor(self) -> FakeVendor:
        return FakeVendor(ACCEPT_AND_LOSE)

    def test_without_callbacks_fails_at_once_and_never_pays_again(self, bench, vendor):
        for _ in range(2):
            with pytest.raises(AirflowFailException, match="on_lost_submit='resubmit'"):
                bench.separate().execute(bench.context())

        assert vendor.charges == 1

    def test_with_resubmit_the_retry_submits_again(self, bench, vendor):
        with pytest.raises(VocalSepError, match="A retry submits it again"):
            bench.separate(on_lost_submit="resubmit").execute(bench.context())

        bench.deferral(bench.separate(on_lost_submit="resubmit"))

        assert vendor.charges == 2

    def test_with_callbacks_the_callback_is_waited_for_in_the_triggerer(self, bench, vendor, callbacks):
        deferred = bench.deferral(bench.separate())

        assert isinstance(deferred.trigger, LostSubmitTrigger)
        assert deferred.trigger.attempt_id == bench.entry().current.attempt_id
        assert deferred.method_name == "execute_adoption"
        assert bench.rows()[1]["one"]["state"] == "in_doubt"

    def test_callback_that_comes_lets_its_vendor_task_be_adopted(self, bench, vendor, callbacks):
        operator = bench.separate()
        deferred = bench.deferral(operator)
        vendor.finish()

        summary = bench.resume(operator, deferred, {"vendor_task_id": "T1"})

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert "adopted" in bench.events()
        assert vendor.charges == 1


class TestOnKill:
    def test_stop_in_the_back_off_of_a_refused_submit_leaves_no_doubt(self, bench, vendor):
        operator = bench.separate()
        vendor.fates = [VendorError("too fast", verdict=Verdict.WAIT, code=430)]
        vendor.on_submit = operator.on_kill

        with pytest.raises(StoppedError, match="A retry continues from the ledger"):
            operator.execute(bench.context())

        assert (vendor.charges, bench.entry().state.value) == (0, "refused")
        vendor.on_submit = lambda: None
        bench.deferral(bench.separate())
        assert vendor.charges == 1

    def test_stop_before_the_submit_sends_nothing_and_leaves_no_doubt(self, bench, vendor):
        operator = bench.separate()
        operator.on_kill()

        with pytest.raises(StoppedError):
            operator.execute(bench.context())

        assert vendor.calls == 0
        bench.deferral(bench.separate())


class TestExecuteComplete:
    @pytest.fixture
    def operator(self, bench):
        return bench.separate()

    @pytest.fixture
    def deferred(self, bench, operator):
        return bench.deferral(operator)

    def test_finished_task_lands_and_concludes_the_report(self, bench, vendor, operator, deferred):
        vendor.finish()

        summary = bench.resume(operator, deferred, FINISHED)

        assert bench.manifest(summary["manifest"]).vendor_task_id == "T1"
        head, rows = bench.rows()
        assert (head["concluded"], head["landed"], rows["one"]["state"]) == (True, 1, "landed")
        assert bench.events() == ["claimed", "submitted", "separated", "landed"]
        assert operator.stems_link.endswith("music/one/separate_vocal/")

    def test_callback_is_recorded_in_the_history(self, callbacks, bench, vendor):
        operator = bench.separate()
        deferred = bench.deferral(operator)
        receive_callback(bench)
        vendor.finish()

        bench.resume(operator, deferred, ended("called_back"))

        assert bench.events() == ["claimed", "submitted", "called_back", "separated", "landed"]

    def test_callback_is_recorded_although_its_task_has_not_ended(self, callbacks, bench):
        operator = bench.separate()
        deferred = bench.deferral(operator)
        receive_callback(bench)

        with pytest.raises(TaskDeferred):
            bench.resume(operator, deferred, ended("called_back"))

        assert bench.events() == ["claimed", "submitted", "called_back"]

    def test_task_that_has_not_ended_is_waited_for_again(self, bench, operator, deferred):
        with pytest.raises(TaskDeferred) as again:
            bench.resume(operator, deferred, ended("called_back"))

        assert isinstance(again.value.trigger, VocalSeparationTrigger)
        assert again.value.kwargs == deferred.kwargs

    def test_failure_that_is_final_fails_at_once(self, bench, vendor, operator, deferred):
        vendor.fail(code=451)

        with pytest.raises(AirflowFailException, match=r"'one'.*451"):
            bench.resume(operator, deferred, ended("failed"))

        head, rows = bench.rows()
        assert (head["concluded"], rows["one"]["code"], rows["one"]["final"]) == (True, 451, True)

    def test_passed_deadline_is_retried_and_the_retry_attaches(self, bench, vendor, operator, deferred):
        with pytest.raises(WaitGivenUpError, match="'one': too late"):
            bench.resume(operator, deferred, ended("gave_up", message="too late"))

        assert bench.events()[-1] == "wait_ended"
        assert bench.deferral(bench.separate()).trigger.vendor_task_id == "T1"
        assert vendor.charges == 1

    @pytest.mark.parametrize("status", ["unknown", "refused"])
    def test_wait_that_the_vendor_refuses_is_left_to_airflows_retry(self, bench, operator, deferred, status):
        with pytest.raises(WaitGivenUpError, match="'one': no"):
            bench.resume(operator, deferred, ended(status, message="no"))

    @pytest.mark.parametrize("event", [{}, {"status": "sung"}, {"status": "finished"}])
    def test_foreign_event_is_refused_and_retried(self, bench, operator, deferred, event):
        with pytest.raises(InvalidEventError, match="a retry attaches"):
            bench.resume(operator, deferred, event)

    def test_landing_that_fails_is_retried_and_recorded(self, bench, vendor, operator, deferred):
        vendor.finish()
        FakeLander.error = LandingError("vocals did not land", failures={"vocals": "404"})

        with pytest.raises(LandingError, match="'one': vocals did not land"):
            bench.resume(operator, deferred, FINISHED)

        assert bench.events()[-1] == "landing_failed"
        assert not bench.rows()[0]["concluded"]

    def test_last_try_concludes_the_report(self, bench, vendor, operator, deferred):
        bench.max_tries = 0
        vendor.finish()
        FakeLander.error = LandingError("vocals did not land", failures={"vocals": "404"})

        with pytest.raises(LandingError):
            bench.resume(operator, deferred, FINISHED)

        assert bench.rows()[0]["concluded"]

    def test_read_error_leaves_the_paid_task_for_the_retry(
        self, bench, vendor, operator, deferred, monkeypatch
    ):
        def refuse(_: str) -> None:
            raise VendorError("busy", verdict=Verdict.RETRY, code=500)

        monkeypatch.setattr(vendor, "read_task", refuse)

        with pytest.raises(VendorError, match="busy"):
            bench.resume(operator, deferred, FINISHED)

        assert bench.entry().current.vendor_task_id == "T1"
