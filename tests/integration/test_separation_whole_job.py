"""The whole job: from a track to verified stems in the bucket, paid for once."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
import requests
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.client.shared import close_shared_clients
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.transfers.vocal_separation_to_s3 import VocalSeparationToS3Operator

STEMS = {"vocals.mp3", "instrumental.mp3"}


def put(bench, name, body):
    bucket, key = parse_s3_uri(f"{bench.destination}/in/{name}")
    bench.s3.put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/{key}"


def wait_for_vendor(bench, vendor_task_id):
    sensor = VocalSeparationSensor(
        task_id="wait", vendor_task_id=vendor_task_id, deferrable=False, poke_interval=0.2, timeout=30
    )
    sensor.execute(bench.context())


class TestExecute:
    def test_stems_land_with_their_digests_and_a_manifest(self, bench):
        summary = bench.separate()

        folder = "daisy-bell/separate_vocal"
        assert bench.objects() == {f"{folder}/{name}" for name in {*STEMS, "manifest.json"}}
        for stem in summary["stems"].values():
            bucket, key = parse_s3_uri(stem["uri"])
            body = bench.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            assert (len(body), hashlib.sha256(body).hexdigest()) == (stem["bytes"], stem["sha256"])
        assert len(json.dumps(summary)) < 4096

    def test_split_stem_records_the_absent_ones_of_the_twelve(self, bench):
        summary = bench.separate(separation_type="split_stem")

        landed = set(summary["stems"])
        assert {"vocals", "drums", "bass"} <= landed
        assert landed | set(summary["absent"]) == {
            stem.value for stem in EXPECTED_STEMS[SeparationType.SPLIT_STEM]
        }
        assert landed.isdisjoint(summary["absent"])
        assert bench.objects() == {
            f"daisy-bell/split_stem/{name}" for name in {*(f"{stem}.mp3" for stem in landed), "manifest.json"}
        }

    def test_split_stem_advanced_names_its_two_stems_by_the_requested_one(self, bench):
        bench.separate(separation_type="split_stem_advanced", stem_name="Lead Vocal")

        assert {name.rsplit("/", 1)[1] for name in bench.objects()} == {
            "lead_vocal_extract.mp3",
            "lead_vocal_remove.mp3",
            "manifest.json",
        }

    def test_awkward_track_keys_stay_apart_and_inside_the_destination(self, bench):
        keys = ["a/b c", "..", "../a", "é🎵", "e🎵", "a/../b", "CON", "x" * 300]
        uris = [bench.separate(track=bench.track(key=key))["manifest"] for key in keys]

        assert len(set(uris)) == len(keys)
        assert all(uri.startswith(f"{bench.destination}/") for uri in uris)
        assert all("/../" not in uri for uri in uris)
        assert bench.submits == 1, "the same audio under another key is not paid for again"

    def test_own_file_at_an_address_is_separated(self, bench):
        url = bench.sandbox.catalogue()[1]["audio_url"]
        summary = bench.separate(track={"key": "own", "audio_url": url})

        assert set(summary["stems"]) == {"vocals", "instrumental"}

    def test_own_file_in_a_bucket_is_presigned_and_paid_again_only_when_it_changes(self, bench):
        songs = [
            requests.get(song["audio_url"], timeout=10).content for song in bench.sandbox.catalogue()[:2]
        ]
        track = {"key": "own", "audio_url": put(bench, "song.flac", songs[0])}
        first = bench.separate(track=track)
        assert bench.separate(track=track) == first
        assert bench.submits == 1

        put(bench, "song.flac", songs[1])
        second = bench.separate(track=track)

        assert bench.submits == 2
        assert second["stems"]["vocals"]["sha256"] != first["stems"]["vocals"]["sha256"]

    def test_without_a_destination_the_vendor_task_is_returned(self, bench):
        outcome = bench.separate(destination=None, ledger=f"{bench.destination}/ledger")

        assert outcome["status"] == "SUCCESS"
        assert set(outcome["stems"]) == {"vocals", "instrumental"}
        assert bench.submits == 1

    def test_without_waiting_the_submit_is_returned_and_the_transfer_lands_it(self, bench):
        submitted = bench.separate(wait_for_completion=False)
        assert submitted["status"] == "SUBMITTED"
        assert bench.objects() == set()

        transfer = VocalSeparationToS3Operator(
            task_id="land",
            vendor_task_id=submitted["vendor_task_id"],
            track_key="daisy-bell",
            destination=bench.destination,
        )
        wait_for_vendor(bench, submitted["vendor_task_id"])
        summary = transfer.execute(bench.context())

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert bench.submits == 1


class TestExecuteAgain:
    def test_second_run_pays_nothing_and_returns_the_same_manifest(self, bench):
        first = bench.separate()
        polls = bench.sandbox.totals()["polls"]
        second = bench.separate(run_id="tomorrow")

        assert second == first
        assert bench.submits == 1
        assert bench.sandbox.totals()["polls"] == polls, "not one call of the vendor"
        assert [event["event"] for event in bench.history()][-1] == "skipped"

    @pytest.mark.parametrize("lost", ["vocals.mp3", "manifest.json"])
    def test_deleted_object_lands_again_without_pay(self, bench, lost):
        first = bench.separate()
        bucket, prefix = parse_s3_uri(bench.destination)
        bench.s3.delete_object(Bucket=bucket, Key=f"{prefix}/daisy-bell/separate_vocal/{lost}")

        second = bench.separate()

        assert second["stems"] == first["stems"]
        assert len(bench.objects()) == 3
        assert bench.submits == 1

    def test_replace_lands_again_without_pay(self, bench):
        bench.separate()
        downloads = bench.sandbox.totals()["downloads"]
        bench.separate(if_landed="replace")

        assert bench.sandbox.totals()["downloads"] == downloads + 2
        assert bench.submits == 1

    def test_other_destination_with_the_same_ledger_lands_without_pay(self, bench):
        ledger = f"{bench.destination}/_vocalsep/ledger"
        bench.separate()
        bench.separate(destination=f"{bench.destination}/elsewhere", ledger=ledger)

        assert len(bench.objects(f"{bench.destination}/elsewhere")) == 3
        assert bench.submits == 1


@pytest.mark.usefixtures("no_resume_delay")
class TestExecuteDeferred:
    def test_event_of_the_trigger_lands_the_stems(self, bench):
        operator = bench.operator(deferrable=True)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(bench.context())
        assert deferred.value.method_name == "execute_complete"

        async def first_event():
            try:
                return await anext(deferred.value.trigger.run())
            finally:
                await close_shared_clients()

        event = asyncio.run(first_event())
        summary = operator.execute_complete(bench.context(), event.payload)

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        assert bench.submits == 1

    def test_retry_attaches_to_the_paid_task(self, bench, faulty):
        faulty("task", "stuck")
        for _ in range(3):
            with pytest.raises(TaskDeferred):
                bench.operator(deferrable=True, track=bench.track(2)).execute(bench.context())

        assert bench.submits == 1
