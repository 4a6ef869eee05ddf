"""What is paid once stays paid: at another destination, under another login, without a ledger entry."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from botocore.exceptions import ClientError

from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from tests.support.operator_bench import BUCKET, FakeLander
from tests.support.vendor import Killed, account_settings

DAYS = ("2026-11-23", "2026-11-24", "2026-11-25")


@pytest.fixture(autouse=True)
def finished_at_once(vendor):
    vendor.separation_seconds = 0


class TestTheLedgersAddress:
    @pytest.mark.xfail(strict=True, reason="M4")
    def test_destination_with_a_date_in_it_pays_once(self, bench, vendor):
        for day in DAYS:
            run = bench.another_run(day)
            summary = run.run(run.separate(destination=f"s3://{BUCKET}/{day}"))
            assert summary["manifest"].startswith(f"s3://{BUCKET}/{day}/")

        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_destination_of_a_batch_with_a_date_in_it_pays_once(self, bench, vendor):
        for day in DAYS:
            run = bench.another_run(day)
            assert run.run(run.batch("one", "two", destination=f"s3://{BUCKET}/{day}"))["landed"] == 2

        assert vendor.charges == 2

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_batch_attaches_to_what_a_single_track_at_another_destination_paid(self, bench, vendor):
        track = {"key": "one", "task_id": "t", "audio_id": "one"}
        bench.run(bench.separate(track=track, destination=f"s3://{BUCKET}/singles"))

        assert bench.another_run().run(bench.batch("one", destination=f"s3://{BUCKET}/albums"))["landed"] == 1
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_submit_only_tasks_of_two_runs_pay_once_if_the_connection_names_a_ledger(self, bench, vendor):
        vendor.settings = account_settings(ledger=f"s3://{BUCKET}/ledgers/main")
        submit = {"destination": None, "wait_for_completion": False}

        first = bench.separate(**submit).execute(bench.context())
        run = bench.another_run()
        second = run.separate(**submit).execute(run.context())

        assert first["vendor_task_id"] == second["vendor_task_id"] == "T1"
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_operators_ledger_goes_before_the_connections(self, bench, vendor):
        vendor.settings = account_settings(ledger=f"s3://{BUCKET}/ledgers/connection")
        bench.run(bench.separate())

        bench.run(bench.separate(ledger=f"s3://{BUCKET}/ledgers/operator", destination=f"s3://{BUCKET}/x"))

        folders = {key.rsplit("/", 2)[0] for key in bench.keys() if key.startswith("ledgers/")}
        assert folders >= {"ledgers/connection", "ledgers/operator"}

    def test_entry_at_the_default_address_of_0_1_is_found(self, bench, vendor):  # M4, kept
        bench.deferral(bench.separate(ledger=f"s3://{BUCKET}/music/_vocalsep/ledger"))

        run = bench.another_run()
        run.run(run.separate())

        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_role_that_may_write_below_its_prefix_only_is_told_before_it_pays(self, bench, vendor):
        def deny(params) -> None:
            if not params["Key"].startswith("music/"):
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not yours"}}, "PutObject")

        bench.on_put(deny)

        with pytest.raises(AirflowFailException, match=r"ledger=|'ledger'|field ledger"):
            bench.run(bench.separate())

        assert vendor.calls == 0


class TestAManifestInPlace:
    @pytest.fixture
    def landed(self, bench):
        return bench.run(bench.separate())

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_login_added_to_the_connection_pays_nothing(self, bench, vendor, landed):
        vendor.settings = account_settings(login="main")
        run = bench.another_run()

        assert run.run(run.separate()) == landed
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_lost_ledger_pays_nothing_for_what_has_landed(self, bench, vendor, landed):
        bench.delete("/ledger/")
        run = bench.another_run()

        assert run.run(run.separate()) == landed
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M4")
    def test_login_added_to_the_connection_pays_nothing_for_a_batch(self, bench, vendor):
        bench.run(bench.batch("one", "two"))
        vendor.settings = account_settings(login="main")
        run = bench.another_run()

        assert run.run(run.batch("one", "two"))["landed"] == 2
        assert vendor.charges == 2

    def test_manifest_of_another_audio_under_the_same_key_does_not_count(self, bench, vendor, landed):  # M4
        run = bench.another_run()
        track = {"key": "one", "task_id": "t", "audio_id": "another"}

        run.run(run.separate(track=track))

        assert vendor.charges == 2

    def test_manifest_without_its_stems_does_not_count(self, bench, vendor, landed):  # M4
        bench.delete("/ledger/", "vocals.mp3")
        run = bench.another_run()

        run.run(run.separate())

        assert (vendor.charges, FakeLander.landings) == (2, 2)


class TestABucketThatDemandsEncryption:
    """M13: its policy denies every PutObject without the header."""

    ARGS = {"upload_args": {"ServerSideEncryption": "aws:kms"}}

    @pytest.fixture
    def plain(self, bench):
        """Return the keys that were sent without it."""
        sent = []

        def deny(params) -> None:
            if params.get("ServerSideEncryption") != "aws:kms":
                sent.append(params["Key"])
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "KMS only"}}, "PutObject")

        bench.on_put(deny)
        return sent

    def test_single_track_lands_and_every_object_is_encrypted(self, bench, vendor, plain):
        summary = bench.run(bench.separate(**self.ARGS))

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert (plain, vendor.charges) == ([], 1)
        assert bench.rows()[1]["one"]["state"] == "landed"

    def test_batch_lands_and_every_object_is_encrypted(self, bench, vendor, plain):
        assert bench.run(bench.batch("one", "two", **self.ARGS))["landed"] == 2
        assert (plain, vendor.charges) == ([], 2)

    def test_plan_is_encrypted(self, bench, plain, monkeypatch):
        monkeypatch.setattr(
            "airflow_provider_vocalsep.operators.catalogue.store_from_connection", lambda _: bench.store
        )
        rows = [{"key": "one", "task_id": "t", "audio_id": "a"}]
        operator = PlanCatalogueOperator(
            task_id="plan", catalogue=rows, destination=f"s3://{BUCKET}/music", **self.ARGS
        )

        assert len(operator.execute(bench.context())) == 1
        assert plain == []

    def test_storage_class_is_for_stems_only(self, bench, vendor):  # M13: an archived entry is unreadable
        classes = {}
        bench.on_put(lambda params: classes.update({params["Key"]: params.get("StorageClass")}))

        bench.run(bench.separate(upload_args={"StorageClass": "GLACIER"}))

        assert {classes[key] for key in classes if "/_vocalsep/" in f"/{key}"} == {None}


class TestAStoreWithoutConditions:
    @pytest.fixture
    def unconditional(self, bench):
        def ignore_conditions(params) -> None:
            params.pop("IfNoneMatch", None)
            params.pop("IfMatch", None)

        bench.on_put(ignore_conditions)

    @pytest.mark.parametrize("kind", ["single", "batch"])
    @pytest.mark.xfail(strict=True, reason="M14")
    def test_is_refused_before_anything_is_paid(self, bench, vendor, unconditional, kind):
        operator = bench.separate() if kind == "single" else bench.batch("one")

        with pytest.raises(AirflowFailException, match="condition"):
            bench.run(operator)

        assert vendor.calls == 0


class TestTheRecordingOfAPaidSubmit:
    @pytest.fixture(autouse=True)
    def log_level(self, caplog):
        caplog.set_level(logging.INFO)

    def test_vendor_task_id_is_logged_before_it_is_recorded(self, bench, vendor, caplog):
        logged = []

        def look(params) -> None:
            if b'"T1"' in params["Body"] and "/ledger/" in params["Key"]:
                logged.append("T1" in caplog.text)

        bench.on_put(look)

        with suppress(TaskDeferred):
            bench.separate().execute(bench.context())

        assert logged[0]

    def test_vendor_task_id_is_in_the_log_of_a_process_that_dies_while_it_records(
        self, bench, vendor, caplog
    ):
        def go_away(params) -> None:
            if b'"T1"' in params["Body"]:
                bench.process.die()

        bench.on_put(go_away)

        with suppress(Killed):
            bench.separate().execute(bench.context())

        assert "T1" in caplog.text

    def test_vendor_task_id_is_not_lost_where_another_run_has_overwritten_the_claim(
        self, bench, vendor, caplog
    ):
        def overwrite(_: str) -> None:
            vendor.on_charge = None
            bench.delete("/ledger/")
            bench.another_run().deferral(bench.separate())
            caplog.clear()

        vendor.on_charge, vendor.separation_seconds = overwrite, None

        with suppress(Exception, TaskDeferred):
            bench.separate().execute(bench.context())

        assert vendor.charges == 2
        assert "T1" in caplog.text

    def test_error_while_recording_never_leads_to_another_submit_in_the_same_call(self, bench, vendor):
        def overwrite(_: str) -> None:
            """Put an entry there whose only attempt is another one, and failed."""
            vendor.on_charge = None
            entry = bench.entry()
            entry.attempts[0].attempt_id, entry.state = "another", EntryState.FAILED
            (key,) = bench.ledger_keys()
            bench.store.put(BUCKET, key, entry.to_json(), content_type="application/json")

        vendor.on_charge, vendor.separation_seconds = overwrite, None

        with suppress(Exception, TaskDeferred):
            bench.separate().execute(bench.context())

        assert vendor.calls == 1
