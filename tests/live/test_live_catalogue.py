"""Separating a catalogue in a real Airflow: its stems land in the bucket, and are paid once."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_vocalsep.demo.report import Totals, catalogue_file, read_manifests
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

DAG_ID = "separate_catalogue"


@pytest.fixture
def books(sandbox):
    return lambda: Totals.read(sandbox.books())


@pytest.fixture
def songs(sandbox):
    return sandbox.catalogue()[:2]


@pytest.fixture
def conf(songs, s3, bucket, prefix, destination):
    """Parameters of a run over two songs, with an empty destination."""
    s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(songs))
    return {
        "catalogue": f"{destination}/catalogue.csv",
        "destination": f"{destination}/out",
        "poll_interval": 1,
    }


@pytest.fixture
def manifests(s3, bucket, prefix):
    return lambda: read_manifests(ObjectStore(s3), Location(bucket, f"{prefix}/out"), "separate_vocal")


class TestCatalogue:
    def test_catalogue_lands_in_the_bucket_and_is_not_paid_twice(
        self, run_dag, conf, songs, books, manifests, s3, bucket
    ):
        before = books()
        first = run_dag(DAG_ID, conf)

        assert first.state == "success"
        assert [ti["rendered_map_index"] for ti in first.tasks("separate")] == [
            song["title"] for song in songs
        ]
        assert (books() - before).submits == len(songs)

        landed = manifests()
        assert {manifest.track["key"] for manifest in landed} == {song["key"] for song in songs}
        duration = {song["key"]: song["duration"] for song in songs}
        for manifest in landed:
            assert [stem.name for stem in manifest.stems] == ["vocals", "instrumental"]
            for stem in manifest.stems:
                body = s3.get_object(Bucket=bucket, Key=stem.uri.removeprefix(f"s3://{bucket}/"))[
                    "Body"
                ].read()
                assert len(body) == stem.bytes
                assert hashlib.sha256(body).hexdigest() == stem.sha256
                assert stem.duration_seconds == pytest.approx(duration[manifest.track["key"]], abs=0.5)

        paid = books()
        cleared = first.clear_and_wait()
        assert cleared.state == "success"
        assert {ti["try_number"] for ti in cleared.tasks("separate")} == {2}
        assert books() == paid
        assert manifests() == landed

        second = run_dag(DAG_ID, conf)
        assert second.state == "success"
        assert books() == paid
        assert manifests() == landed
        assert second.xcom("separate", 0) == first.xcom("separate", 0)

    def test_log_says_what_happens_next(self, run_dag, conf):
        run = run_dag(DAG_ID, conf)
        log = run.log("separate", 0)

        assert "no worker is held" in log
        assert "stems of track" in log

    def test_bad_row_stops_the_run_with_its_line_before_anything_is_paid(
        self, run_dag, conf, songs, books, s3, bucket, prefix
    ):
        bad = [songs[0], {**songs[1], "audio_id": ""}]
        s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(bad))
        before = books()

        run = run_dag(DAG_ID, conf)

        assert run.state == "failed"
        assert "audio_id missing" in run.log("read_tracks")
        assert "line 3" in run.log("read_tracks")
        assert books() == before


class TestTrack:
    def test_manifest_of_twelve_stems_lists_absent_stems(
        self, run_dag, songs, books, s3, bucket, prefix, destination
    ):
        before = books()
        run = run_dag(
            "separate_track",
            {
                **{name: songs[0][name] for name in ("key", "task_id", "audio_id")},
                "separation_type": "split_stem",
                "destination": f"{destination}/out",
                "poll_interval": 1,
            },
        )

        assert run.state == "success"
        (manifest,) = read_manifests(ObjectStore(s3), Location(bucket, f"{prefix}/out"), "split_stem")
        names = [stem.name for stem in manifest.stems] + [stem.name for stem in manifest.absent]
        assert len(names) == len(set(names)) == 12
        assert (books() - before).submits == 1
