"""Metrics and lineage of whole jobs, compared with the vendor's books and the bucket."""

from __future__ import annotations

import json

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, HookLineageCollector

from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.observability import lineage
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.separation.track_job import SeparationFailedError
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.transfers.vocal_separation_to_s3 import VocalSeparationToS3Operator


@pytest.fixture
def sums(statsd, bench):
    """The sums of the metrics, once those named have arrived."""

    def sums(**at_least):
        def there():
            now = statsd.sums()
            return all(now.get(name, 0) >= value for name, value in at_least.items())

        wait_until(there, timeout=10, what=f"{at_least}, not {statsd.sums()}")
        return statsd.sums()

    return sums


def put_song(bench, name="in/song.flac"):
    bucket, key = parse_s3_uri(f"{bench.destination}/{name}")
    audio = requests.get(bench.sandbox.catalogue()[1]["audio_url"], timeout=10).content
    bench.s3.put_object(Bucket=bucket, Key=key, Body=audio)
    return f"s3://{bucket}/{key}"


class TestMetrics:
    def test_metrics_of_a_track_match_the_vendors_books_and_the_bucket(self, bench, sums):
        books = bench.sandbox.totals()
        summary = bench.separate()

        counted = sums(landing_duration=1)
        after = bench.sandbox.totals()
        assert counted == {
            "submitted": after["submits"] - books["submits"],
            "credits": after["credits_charged"] - books["credits_charged"],
            "separated": 1,
            "separation_duration": 1,
            "landed": 1,
            "landing_duration": 1,
            "stems": len(summary["stems"]),
            "bytes": summary["bytes"],
        }
        assert bench.separate() == summary
        assert sums(skipped=1) == {**counted, "skipped": 1}

    def test_metrics_of_a_track_that_is_paid_twice_match_the_vendors_books(self, bench, faulty, sums):
        books = bench.sandbox.totals()
        faulty("task", "fail", code=531, message="bad luck", times=1)
        faulty("submit", "code", code=430, times=1)
        bench.refusal(SeparationFailedError)
        bench.separate()

        counted = sums(landing_duration=1)
        after = bench.sandbox.totals()
        assert counted["submitted"] == after["submits"] - books["submits"] == 2
        assert counted["credits"] == after["credits_charged"] - books["credits_charged"]
        assert counted["credits_refunded"] == after["credits_refunded"] - books["credits_refunded"] > 0
        assert (counted["separation_failed"], counted["sent_again"], counted["landed"]) == (1, 1, 1)

    def test_lost_submit_is_counted(self, bench, faulty, sums):
        faulty("submit", "accept_then_drop", times=1)
        bench.refusal(AirflowFailException)

        assert sums(failed=1) == {"submit_lost": 1, "failed": 1}

    def test_transfer_counts_what_it_landed_once(self, bench, sums):
        task = bench.separate(destination=None, wait_for_completion=False)["vendor_task_id"]
        wait(bench, task)
        summary = transfer(bench, task).execute(bench.context())
        transfer(bench, task).execute(bench.context())

        counted = sums(landed=1, bytes=1)
        assert (counted["landed"], counted["stems"], counted["bytes"]) == (1, 2, summary["bytes"])

    def test_metrics_of_a_batch_match_its_tracks(self, bench, faulty, sums):
        tracks = [bench.track(song) for song in range(3)]
        bench.sandbox.set_fault("task", "fail", code=451, message="no", track=tracks[2]["audio_id"])
        with pytest.raises(AirflowFailException):
            batch(bench, tracks).execute(bench.context())
        counted = sums(failed=1, landing_duration=2)
        assert (counted["submitted"], counted["landed"], counted["failed"]) == (3, 2, 1)

        bench.sandbox.clear_faults()
        batch(bench, tracks).execute(bench.context())
        counted = sums(landing_duration=3)
        assert (counted["submitted"], counted["landed"], counted["failed"], counted["skipped"]) == (
            4,
            3,
            1,
            2,
        )

    def test_tracks_beyond_max_credits_are_counted_as_left(self, bench, sums):
        tracks = [bench.track(song) for song in range(3)]
        batch(bench, tracks, max_credits=10, parallel=1).execute(bench.context())

        counted = sums(left=2)
        assert (counted["submitted"], counted["left"], counted["credits"]) == (1, 2, 10)


def wait(bench, task):
    VocalSeparationSensor(
        task_id="wait", vendor_task_id=task, deferrable=False, poke_interval=0.2, timeout=30
    ).execute(bench.context())


def transfer(bench, task):
    return VocalSeparationToS3Operator(
        task_id="land", vendor_task_id=task, track_key="mine", destination=bench.destination
    )


def batch(bench, tracks, **arguments):
    quick = {"deferrable": False, "poll_interval": 0.1, "linger": 0.2, "timeout": 60}
    return VocalSeparationBatchOperator(
        task_id="separate", tracks=tracks, destination=bench.destination, **quick, **arguments
    )


def datasets(found):
    return [(data.namespace, data.name) for data in found]


def uris(summary):
    return [stem["uri"] for stem in summary["stems"].values()]


class TestOpenLineage:
    """The lineage as the listener of OpenLineage's provider reads it."""

    @pytest.fixture
    def extract(self):
        base = pytest.importorskip("airflow.providers.openlineage.extractors.base")

        def extract(operator):
            return base.DefaultExtractor(operator).extract_on_complete(None)

        return extract

    def names(self, addresses):
        return [(f"s3://{bucket}", key) for bucket, key in map(parse_s3_uri, addresses)]

    def test_track_has_its_audio_and_each_stem_with_its_bytes(self, bench, extract):
        operator = bench.operator()
        summary = operator.execute(bench.context())
        found = extract(operator)

        track = bench.track()
        assert datasets(found.inputs) == [(bench.sandbox.url, f"{track['task_id']}/{track['audio_id']}")]
        assert datasets(found.outputs) == self.names(uris(summary))
        sizes = [data.outputFacets["outputStatistics"].size for data in found.outputs]
        assert sizes == [stem["bytes"] for stem in summary["stems"].values()]
        assert found.run_facets["externalQuery"].externalQueryId == summary["vendor_task_id"]

    def test_lineage_has_no_signature_and_no_credentials(self, bench, extract):
        url = bench.sandbox.catalogue()[1]["audio_url"].replace("://", "://user:secret@")
        operator = bench.operator(track={"key": "own", "audio_url": f"{url}?X-Amz-Signature=secret"})
        operator.execute(bench.context())
        found = extract(operator)

        assert datasets(found.inputs) == [(bench.sandbox.url, url.partition("://")[2].partition("/")[2])]
        assert "secret" not in repr(found)

    def test_own_file_in_a_bucket_is_its_key(self, bench, extract):
        uri = put_song(bench)
        operator = bench.operator(track={"key": "own", "audio_url": uri})
        operator.execute(bench.context())

        assert datasets(extract(operator).inputs) == self.names([uri])

    def test_transfer_goes_from_the_vendor_task_to_the_stems(self, bench, extract):
        task = bench.separate(destination=None, wait_for_completion=False)["vendor_task_id"]
        wait(bench, task)
        operator = transfer(bench, task)
        summary = operator.execute(bench.context())

        found = extract(operator)
        assert datasets(found.inputs) == [(bench.sandbox.url, task)]
        assert datasets(found.outputs) == self.names(uris(summary))

    def test_small_batch_lists_tracks_and_stems_and_a_large_one_chunk_and_destination(
        self, bench, extract, monkeypatch
    ):
        bucket, key = parse_s3_uri(f"{bench.destination}/tracks-000001-000002.jsonl")
        tracks = [bench.track(song) for song in range(2)]
        bench.s3.put_object(Bucket=bucket, Key=key, Body="\n".join(map(json.dumps, tracks)).encode())
        operator = batch(bench, f"s3://{bucket}/{key}")
        totals = operator.execute(bench.context())

        found = extract(operator)
        assert datasets(found.inputs) == [
            (f"s3://{bucket}", key),
            *((bench.sandbox.url, f"{track['task_id']}/{track['audio_id']}") for track in tracks),
        ]
        stems = [name for name in bench.objects() if name.endswith(".mp3")]
        assert {name for _, name in datasets(found.outputs)} == {
            parse_s3_uri(f"{bench.destination}/{name}")[1] for name in stems
        }

        monkeypatch.setattr(lineage, "MAX_LISTED", 1)
        found = extract(operator)
        assert datasets(found.inputs) == [(f"s3://{bucket}", key)]
        assert datasets(found.outputs) == self.names([bench.destination])
        statistics = found.outputs[0].outputFacets["outputStatistics"]
        assert (statistics.size, statistics.fileCount) == (totals["bytes"], totals["stems"])

    def test_task_that_failed_at_once_has_no_lineage(self, bench, extract):
        operator = bench.operator(track={"key": "no ids"})
        with pytest.raises(AirflowFailException):
            operator.execute(bench.context())

        found = extract(operator)
        assert (found.inputs, found.outputs) == ([], [])


class TestHookLineage:
    @pytest.fixture
    def collected(self, monkeypatch):
        """Airflow's collector, which Airflow installs if a plugin reads it."""
        collector = HookLineageCollector()
        monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)

        def collected():
            found = collector.collected_assets
            return [each.asset.uri for each in found.inputs], [each.asset.uri for each in found.outputs]

        return collected

    def test_track_has_its_own_file_and_its_stems(self, bench, collected):
        uri = put_song(bench)
        summary = bench.separate(track={"key": "own", "audio_url": uri})

        assert collected() == ([uri], uris(summary))

    def test_track_that_had_landed_reports_nothing(self, bench, collected):
        bench.separate()
        before = collected()
        bench.separate()

        assert collected() == before

    def test_plan_and_batch_meet_at_the_chunk(self, bench, collected):
        bucket, key = parse_s3_uri(f"{bench.destination}/catalogue.csv")
        track = bench.track()
        body = "key,task_id,audio_id\n" + ",".join(track[name] for name in ("key", "task_id", "audio_id"))
        bench.s3.put_object(Bucket=bucket, Key=key, Body=body.encode())
        plan = PlanCatalogueOperator(
            task_id="plan", catalogue=f"s3://{bucket}/{key}", destination=bench.destination
        )
        (chunk,) = plan.execute(bench.context())
        batch(bench, chunk).execute(bench.context())

        assert collected() == ([f"s3://{bucket}/{key}", chunk], [chunk, bench.destination])

    def test_catalogue_on_disk_is_its_path(self, bench, collected, tmp_path):
        catalogue = tmp_path / "a b.csv"
        track = bench.track()
        catalogue.write_text(f"key,task_id,audio_id\none,{track['task_id']},{track['audio_id']}")
        PlanCatalogueOperator(
            task_id="plan", catalogue=str(catalogue), destination=bench.destination
        ).execute(bench.context())

        assert collected()[0] == [catalogue.as_uri()]
