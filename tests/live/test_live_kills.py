"""SIGKILL at each moment of a separation: one charge, and all stems in the bucket after the retry."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_vocalsep.demo.report import Totals, read_manifests
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

#: Moments before the submit or after its answer is in the ledger.
RECORDED = (
    "before the claim",
    "after the answer was recorded",
    "in the middle of landing",
    "before the manifest",
    "after the manifest",
)


@pytest.fixture
def song(sandbox):
    row = sandbox.catalogue()[2]
    return {name: row[name] for name in ("key", "title", "task_id", "audio_id", "duration")}


@pytest.fixture
def charges(sandbox):
    return lambda: Totals.read(sandbox.books()).submits


@pytest.fixture
def run_killed(run_dag, song, destination):
    return lambda moment: run_dag(
        "killed", {"track": song, "destination": destination, "moment": moment}, timeout=240
    )


@pytest.fixture
def complete(s3, bucket, prefix):
    """Return whether both stems landed; fail if a stem's bytes differ from its manifest."""

    def check() -> bool:
        (manifest,) = read_manifests(ObjectStore(s3), Location(bucket, prefix), "separate_vocal")
        for stem in manifest.stems:
            key = stem.uri.removeprefix(f"s3://{bucket}/")
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            assert hashlib.sha256(body).hexdigest() == stem.sha256
        return {stem.name for stem in manifest.stems} == {"vocals", "instrumental"}

    return check


class TestKilledTask:
    @pytest.mark.parametrize("moment", RECORDED)
    def test_killed_task_is_paid_once_and_completes_on_the_retry(self, run_killed, charges, complete, moment):
        before = charges()
        run = run_killed(moment)
        assert [ti["try_number"] for ti in run.tasks()] == [2]
        assert run.state == "success"
        assert charges() - before == 1
        assert complete()

    @pytest.mark.parametrize(
        "moment, charged",
        [("before the submit", 0), ("after the vendor accepted", 1)],
        ids=["before", "after"],
    )
    def test_task_killed_around_its_submit_fails_with_the_next_step_and_no_second_charge(
        self, run_killed, run_dag, charges, song, destination, complete, moment, charged
    ):
        before = charges()
        run = run_killed(moment)
        assert run.state == "failed"
        assert charges() - before == charged
        log = run.log("separate", try_number=2)
        assert "may have been paid for already" in log
        assert "on_lost_submit='resubmit'" in log

    def test_deferred_task_continues_after_its_triggerer_is_killed(
        self, airflow, charges, song, destination, complete
    ):
        before = charges()
        airflow.wait_for_dags(["separate_track"])
        conf = {name: song[name] for name in ("key", "task_id", "audio_id")} | {
            "destination": destination,
            "poll_interval": 1,
        }
        run_id = airflow.api.trigger("separate_track", conf)
        airflow.api.wait_for_task("separate_track", run_id, "separate", ["deferred"])
        airflow.services["triggerer"].kill()
        airflow.services["triggerer"].start()
        assert airflow.api.wait_for_run("separate_track", run_id, timeout=240) == "success"
        assert charges() - before == 1
        assert complete()
