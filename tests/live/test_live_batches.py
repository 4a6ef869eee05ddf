"""Batches in a real Airflow: planned, mapped, deferred once, killed, and paid once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote

import pytest
import requests

from airflow_provider_vocalsep.callbacks.inbox import BATCH_KEY
from airflow_provider_vocalsep.callbacks.token import CallbackClaims, mint
from airflow_provider_vocalsep.demo.airflow_api import AirflowApiError
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.demo.report import catalogue_file, read_manifests
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

SECRET = "a-secret-of-the-live-tests-0123456789"


@pytest.fixture
def songs(sandbox):
    names = ("key", "title", "task_id", "audio_id", "duration")
    return [{name: song[name] for name in names} for song in sandbox.catalogue()[:3]]


@pytest.fixture
def landed(s3, bucket, prefix):
    store, destination = ObjectStore(s3), Location(bucket, prefix)
    return lambda: {m.track["key"] for m in read_manifests(store, destination, "separate_vocal")}


class TestCatalogue:
    def test_catalogue_is_mapped_by_chunks_and_paid_once(
        self, run_dag, s3, bucket, prefix, destination, sandbox, cost, landed
    ):
        songs = sandbox.catalogue()[:4]
        s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(songs))
        conf = {
            "catalogue": f"{destination}/catalogue.csv",
            "destination": destination,
            "chunk_size": 3,
            "poll_interval": 1,
        }
        run = run_dag("separate_large_catalogue", conf)

        assert run.state == "success"
        labels = [ti["rendered_map_index"] for ti in run.tasks("separate")]
        assert labels == ["tracks 1–3", "tracks 4–4"]
        assert landed() == {song["key"] for song in songs}
        assert [run.xcom("separate", n)["landed"] for n in (0, 1)] == [3, 1]
        assert cost().submits == 4

        again = run_dag("separate_large_catalogue", conf)
        assert again.state == "success"
        assert [again.xcom("separate", n)["before"] for n in (0, 1)] == [3, 1]
        only_new = run_dag("separate_large_catalogue", {**conf, "only_new": True})
        assert only_new.xcom("plan") == []
        assert cost().submits == 4

    def test_landed_catalogue_triggers_dags_that_are_scheduled_by_its_asset(
        self, run_dag, airflow, s3, bucket, prefix, destination, songs
    ):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(songs))
        conf = {
            "catalogue": f"{destination}/catalogue.csv",
            "destination": destination,
            "chunk_size": 2,
            "poll_interval": 1,
        }
        airflow.wait_for_dags(["index_stems"])

        def announced(run):
            # Airflow 3.3.2 answers 500 about an event that started a DAG run which has not begun yet.
            with suppress(AirflowApiError):
                return events(run)

        def events(run):
            found = airflow.api.request("GET", "assets/events", params={"source_run_id": run.run_id})
            return sorted(event["extra"]["new"] for event in found["asset_events"])

        def index():
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/_index/")
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            texts = [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
            return [json.loads(line) for text in texts for line in text.splitlines()]

        first = run_dag("separate_large_catalogue", conf)
        assert first.state == "success"
        wait_until(lambda: announced(first) == [1, 2], what="its events", timeout=60)
        wait_until(lambda: len(index()) == 6, what="the index", timeout=60)
        assert {(line["track"], line["name"]) for line in index()} == {
            (song["key"], stem) for song in songs for stem in ("vocals", "instrumental")
        }
        assert all(len(line["sha256"]) == 64 and line["uri"].startswith(destination) for line in index())

        again = run_dag("separate_large_catalogue", conf)
        assert again.state == "success"
        wait_until(lambda: announced(again) == [0, 0], what="the events of the second run", timeout=60)
        assert len(index()) == 6


class TestBatchWithCallbacks:
    @pytest.fixture(autouse=True)
    def connection(self, airflow, sandbox):
        vendor = sandbox_connection(sandbox, callback_base_url=airflow.url, callback_secret=SECRET)
        airflow.api.put_connections({"vocalsep_callbacks": vendor})

    @pytest.fixture
    def separate(self, run_dag, songs, destination):
        return lambda **conf: run_dag(
            "batches", {"tracks": songs, "destination": destination, **conf}, timeout=150
        )

    def audit(self, run):
        path = {"dag_id": "batches", "run_id": run.run_id, "limit": 100}
        rows = run.airflow.api.request("GET", "eventLogs", params=path)["event_logs"]
        return sorted(row["event"] for row in rows if row["event"].startswith("vocalsep_callback_"))

    def test_deferred_batch_is_resumed_once_by_its_last_callback(
        self, separate, cost, landed, faulty, sandbox, songs
    ):
        faulty("callback", "late", seconds=10)
        run = separate()

        assert run.state == "success"
        assert landed() == {song["key"] for song in songs}
        assert self.audit(run) == ["vocalsep_callback_remembered"] * 2 + ["vocalsep_callback_resumed"]
        assert cost().submits == 3
        assert [task["polls"] for task in sandbox.books()["tasks"][-3:]] == [1, 1, 1]

    def test_concurrent_callbacks_are_all_stored(self, separate, airflow):
        run = separate()
        who = ("vocalsep_callbacks", "batches", run.run_id, "separate", -1)
        attempts = [f"attempt {n}" for n in range(24)]
        expires = int(time.time()) + 600

        def call_back(attempt):
            token = mint(CallbackClaims(*who, attempt, expires, batch=True), SECRET)
            body = {"code": 200, "msg": "done", "data": {"task_id": f"task of {attempt}"}}
            return requests.post(
                f"{airflow.url}/vocalsep/callback/{token}", json=body, timeout=30
            ).status_code

        with ThreadPoolExecutor(len(attempts)) as pool:
            assert set(pool.map(call_back, attempts)) == {200}
        store = f"dags/batches/dagRuns/{quote(run.run_id)}/taskInstances/separate/state-store/{BATCH_KEY}"
        stored = airflow.api.request("GET", store)["value"]
        assert stored.keys() >= set(attempts)

    @pytest.mark.parametrize(
        "moment", ["after the vendor accepted", "after the answer was recorded", "in the middle of landing"]
    )
    def test_killed_batch_continues_and_pays_nothing_twice(self, separate, cost, landed, songs, moment):
        run = separate(moment=moment)

        assert run.state == "success"
        assert [ti["try_number"] for ti in run.tasks()] == [2]
        assert landed() == {song["key"] for song in songs}
        assert cost().submits == 3

    def test_lost_submits_are_adopted(self, separate, cost, landed, songs, faulty):
        faulty("submit", "accept_then_drop", times=2)
        run = separate()

        assert run.state == "success"
        assert landed() == {song["key"] for song in songs}
        assert cost().submits == 3
