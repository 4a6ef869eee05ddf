"""Batches of tracks, with a vendor whose stems are tiny."""

from __future__ import annotations

import asyncio
import json
import re
import time
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.client import pace
from airflow_provider_vocalsep.client.shared import close_shared_clients
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator
from airflow_provider_vocalsep.operators.vocal_separation_batch import BatchFailedError
from airflow_provider_vocalsep.sandbox.server import running_sandbox
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.triggers import BATCH_TRIGGER
from airflow_provider_vocalsep.triggers.batch import BatchTrigger

pytestmark = pytest.mark.usefixtures("no_resume_delay")


def tracks(count, start=0):
    return [
        {"key": f"track-{n}", "task_id": f"{n:032x}", "audio_id": f"{n:08x}-0000-4000-8000-000000000000"}
        for n in range(start, start + count)
    ]


class Batch:
    """Runs tries of one batch; reads their charges and objects."""

    def __init__(self, vendor, s3, destination):
        self.vendor = vendor
        self.s3 = s3
        self.destination = destination
        self.tries = 0
        self.max_tries = 1

    def run(self, what, *, run_id="run", **arguments):
        self.tries += 1
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=run_id,
            task_id="separate",
            map_index=3,
            try_number=self.tries,
            max_tries=self.max_tries,
            xcom_push=lambda key, value: None,
        )
        quick = {"deferrable": False, "poll_interval": 0.1, "linger": 0.2, "timeout": 60}
        operator = VocalSeparationBatchOperator(
            task_id="separate", **{"tracks": what, "destination": self.destination, **quick, **arguments}
        )
        return operator.execute({"ti": ti})

    @property
    def charges(self):
        return self.vendor.totals()["charges"]

    def fault(self, place, kind, audio_id, **fields):
        self.vendor.set_fault(place, kind, track=audio_id, **fields)

    def keys(self):
        bucket, prefix = parse_s3_uri(self.destination)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        found = [
            item["Key"].removeprefix(f"{prefix}/") for page in pages for item in page.get("Contents", [])
        ]
        return {key for key in found if not key.startswith("_vocalsep")}

    def report(self, uri):
        bucket, key = parse_s3_uri(uri)
        head, *rows = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode().splitlines()
        return json.loads(head), {row["track"]: row for row in map(json.loads, rows)}


@pytest.fixture
def vendor(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.getbasetemp() / "tiny-stems"
    options = {"tiny_stems": True, "task_seconds": 0.3, "submit_rate": "1000/1s", "credits": 100_000}
    with running_sandbox(in_process=True, cache_dir=cache, **options) as sandbox:
        yield sandbox


@pytest.fixture
def batch(vendor, s3, seaweed, destination, monkeypatch):
    connection = sandbox_connection(vendor)
    connection["extra"]["submit_rate"] = "1000/1s"
    monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(seaweed.connection))
    yield Batch(vendor, s3, destination)
    pace._gates.clear()


class TestExecute:
    def test_all_tracks_land_and_the_report_has_a_row_for_each(self, batch):
        counts = batch.run(tracks(20))

        expected = {
            "tracks": 20,
            "landed": 20,
            "failed": 0,
            "left": 0,
            "before": 0,
            "submits": 20,
            "stems": 40,
        }
        assert {name: counts[name] for name in expected} == expected
        assert counts["bytes"] > 0
        assert len(batch.keys()) == 60
        assert counts["report"].endswith("/_vocalsep/runs/dag/run/separate/00003.jsonl")
        head, rows = batch.report(counts["report"])
        assert (head["concluded"], head["landed"], head["try_number"]) == (True, 20, 1)
        assert list(rows) == [track["key"] for track in tracks(20)]
        assert rows["track-7"]["state"] == "landed"
        assert rows["track-7"]["manifest"] == f"{batch.destination}/track-7/separate_vocal/manifest.json"
        assert len(json.dumps(counts)) < 500

    def test_later_run_pays_and_lands_only_new_tracks(self, batch):
        batch.run(tracks(10))
        counts = batch.run(tracks(14))

        assert (counts["landed"], counts["before"], counts["submits"]) == (14, 0, 4)
        assert batch.charges == 14
        counts = batch.run(tracks(14), run_id="another")
        assert (counts["landed"], counts["before"], counts["submits"]) == (14, 14, 0)

    def test_empty_batch_costs_nothing(self, batch):
        assert batch.run([])["tracks"] == 0
        assert batch.charges == 0

    def test_audio_under_two_keys_is_paid_for_once(self, batch):
        one = tracks(1)[0]
        counts = batch.run([one, {**one, "key": "other-name"}, one])

        assert (counts["tracks"], counts["landed"], batch.charges) == (2, 2, 1)
        head, _ = batch.report(counts["report"])
        assert (head["submits"], head["credits"]) == (1, 10)

    def test_tracks_are_read_from_a_chunk_file(self, batch):
        bucket, prefix = parse_s3_uri(batch.destination)
        key = f"{prefix}/in/tracks-000201-000203.jsonl"
        chunk = [{**track, "title": "one\u2028two"} for track in tracks(3, 200)]
        body = "".join(json.dumps(track, ensure_ascii=False) + "\n" for track in chunk)
        batch.s3.put_object(Bucket=bucket, Key=key, Body=body.encode())

        assert batch.run(f"s3://{bucket}/{key}")["landed"] == 3

    def test_unusable_track_keeps_all_tracks_from_being_submitted(self, batch):
        with pytest.raises(
            AirflowFailException, match=r"2 of 3 tracks cannot be used:\n  2: .*\n  3: .*own key"
        ):
            batch.run([tracks(1)[0], {"key": "no ids"}, {**tracks(2)[1], "key": "track-0"}])
        assert batch.charges == 0


class TestExecuteWithFailures:
    def test_failures_within_max_failed_are_reported(self, batch):
        for n in (2, 5):
            batch.fault("task", "fail", tracks(n + 1)[n]["audio_id"], code=451, message="no audio there")
        counts = batch.run(tracks(8), max_failed=0.25)

        assert (counts["landed"], counts["failed"]) == (6, 2)
        _, rows = batch.report(counts["report"])
        assert "no audio there" in rows["track-5"]["message"]
        assert rows["track-5"]["code"] == 451

    def test_failures_beyond_max_failed_fail_the_batch_and_a_clear_retries_only_them(self, batch):
        batch.fault("task", "fail", tracks(4)[3]["audio_id"], code=451, message="no audio there")
        with pytest.raises(AirflowFailException, match=r"1 of 8 tracks failed:\n  track-3: .*no audio there"):
            batch.run(tracks(8))
        batch.vendor.clear_faults()
        counts = batch.run(tracks(8))

        assert (counts["landed"], counts["before"], counts["submits"], batch.charges) == (8, 0, 1, 9)

    def test_final_and_single_failures_of_a_twentieth_each_end_as_max_failed_says(self, batch):
        catalogue = tracks(100)
        for n in (3, 23, 43, 63, 83):
            batch.fault("task", "fail", catalogue[n]["audio_id"], code=451, message="no audio there")
        for n in (11, 31, 51):
            batch.fault("task", "fail", catalogue[n]["audio_id"], code=500, times=1)
        for n in (71, 91):
            batch.fault("submit", "code", catalogue[n]["audio_id"], code=400, message="audio unusable")

        with pytest.raises(AirflowFailException, match=r"7 of 100 tracks failed") as failed:
            batch.run(catalogue, max_failed=0.05)
        uri = re.search(r"Report: (s3://\S+)", str(failed.value))[1]
        head, rows = batch.report(uri)
        assert (head["landed"], head["failed"]) == (93, 7)
        messages = {key: row["message"] for key, row in rows.items() if row["state"] == "failed"}
        assert list(messages) == [f"track-{n}" for n in (3, 23, 43, 63, 71, 83, 91)]
        assert all("no audio there" in messages[f"track-{n}"] for n in (3, 23, 43, 63, 83))
        assert all("audio unusable" in messages[f"track-{n}"] for n in (71, 91))
        assert batch.charges == 98 + 3

        batch.vendor.clear_faults()
        counts = batch.run(catalogue, max_failed=0.05)
        assert (counts["landed"], counts["submits"], batch.charges) == (100, 7, 101 + 7)

    def test_transient_failure_is_submitted_again_in_the_same_try(self, batch):
        batch.fault("task", "fail", tracks(2)[1]["audio_id"], code=500, times=1)
        counts = batch.run(tracks(4))

        assert (counts["landed"], counts["submits"]) == (4, 5)

    def test_retry_repeats_transient_failures_and_pays_for_no_final_one(self, batch):
        batch.max_tries = 1
        batch.fault("task", "fail", tracks(1)[0]["audio_id"], code=451, message="no audio there")
        batch.fault("download", "html", tracks(2)[1]["audio_id"], status=503)
        with pytest.raises(
            BatchFailedError, match=r"(?s)2 of 3 tracks failed.*A retry does only what is missing"
        ):
            batch.run(tracks(3))
        batch.vendor.clear_faults()
        with pytest.raises(AirflowFailException, match=r"1 of 3 tracks failed:\n  track-0"):
            batch.run(tracks(3))

        assert batch.charges == 3

    def test_lost_answer_is_submitted_again_by_the_retry_with_resubmit(self, batch):
        batch.max_tries = 2
        batch.fault("submit", "accept_then_drop", tracks(2)[1]["audio_id"], times=1)
        with pytest.raises(
            BatchFailedError, match=r"1 of 3 tracks failed:\n  track-1: .*A retry submits it again"
        ):
            batch.run(tracks(3), on_lost_submit="resubmit")
        counts = batch.run(tracks(3), on_lost_submit="resubmit")

        assert (counts["landed"], counts["submits"], batch.charges) == (3, 3, 4)


class TestExecuteWithLimitedCredits:
    def test_max_credits_leaves_the_tracks_beyond_it(self, batch):
        counts = batch.run(tracks(8), max_credits=50)

        assert (counts["landed"], counts["left"], counts["submits"], batch.charges) == (5, 3, 5, 5)

    def test_empty_account_fails_the_batch_and_keeps_what_landed(self, batch):
        batch.fault("submit", "code", tracks(3)[2]["audio_id"], code=429, message="Insufficient credits")
        with pytest.raises(AirflowFailException, match=r"tracks were left: .*Top the account up"):
            batch.run(tracks(6), parallel=1)

        assert batch.charges == 2
        assert len(batch.keys()) == 6


class TestExecuteDeferred:
    @pytest.fixture(autouse=True)
    def calls_back(self, batch, monkeypatch):
        """Switch callbacks on, without a receiver."""
        connection = sandbox_connection(
            batch.vendor, callback_base_url="http://127.0.0.1:1", callback_secret="s" * 32
        )
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(connection))

    @staticmethod
    def parked(batch, what, run_id):
        with pytest.raises(TaskDeferred) as deferred:
            batch.run(what, run_id=run_id, deferrable=True, poll_interval=None)
        return deferred.value.trigger

    def test_reads_are_rare_unless_the_vendor_calls_back_another_run(self, batch):
        batch.fault("task", "stuck", tracks(1)[0]["audio_id"])
        own = self.parked(batch, tracks(1), "first")
        assert (own.poll_interval, own.read_at_once) == (300, False)

        mixed = self.parked(batch, tracks(2), "second")
        assert (mixed.poll_interval, mixed.read_at_once) == (30, True)
        assert batch.charges == 2

        again = self.parked(batch, tracks(1), "first")
        assert (again.poll_interval, set(again.waiting)) == (300, set(own.waiting))


class TestBatchTrigger:
    def watch(self, **kwargs):
        async def first_event():
            trigger = BatchTrigger(
                **{"deadline": time.time() + 30, "poll_interval": 0.1, "linger": 5, **kwargs}
            )
            classpath, arguments = trigger.serialize()
            assert classpath == BATCH_TRIGGER
            try:
                return await BatchTrigger(**json.loads(json.dumps(arguments))).run().__anext__()
            finally:
                await close_shared_clients()

        return asyncio.run(first_event()).payload

    def test_event_has_the_outcome_of_each_task(self, batch, vendor):
        batch.fault("task", "fail", tracks(1)[0]["audio_id"], code=451, message="no audio there")
        client = VocalSeparationHook().client
        ids = [client.submit(Track.parse(track), SeparationType.SEPARATE_VOCAL) for track in tracks(3)]
        event = self.watch(waiting={task_id: time.time() for task_id in ids})

        assert {task_id: outcome for task_id, (outcome, _) in event["ended"].items()} == {
            ids[0]: "failed",
            ids[1]: "finished",
            ids[2]: "finished",
        }
        assert event["reads"] >= 3

    def test_event_comes_after_linger_for_the_tasks_that_have_ended(self, batch, vendor):
        batch.fault("task", "stuck", tracks(1)[0]["audio_id"])
        client = VocalSeparationHook().client
        ids = [client.submit(Track.parse(track), SeparationType.SEPARATE_VOCAL) for track in tracks(2)]
        event = self.watch(waiting={task_id: time.time() for task_id in ids}, linger=0.3)

        assert list(event["ended"]) == [ids[1]]
