from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone

import pytest

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.demo.report import Totals, build_report, catalogue_file, read_manifests
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

SONGS = [
    {
        "key": "daisy",
        "title": "Daisy Bell, or: a bicycle",
        "task_id": "t1",
        "audio_id": "a1",
        "duration": 19.2,
    },
    {
        "key": "lomond",
        "title": "Loch Lomond",
        "task_id": "t2",
        "audio_id": "a2",
        "duration": 20.1,
        "genre": "folk",
    },
]


def manifest(key: str, separation: str = "separate_vocal") -> Manifest:
    folder = f"s3://stems/catalogue/{key}/{separation}"
    return Manifest(
        track={"key": key},
        separation_type=SeparationType(separation),
        dialect="sunoapi",
        vendor_task_id="v" * 32,
        landed_at=datetime(2026, 11, 23, tzinfo=timezone.utc),
        stems=tuple(
            LandedStem(
                name=name,
                uri=f"{folder}/{name}.mp3",
                bytes=1000,
                sha256="0" * 64,
                duration_seconds=19.2,
                content_type="audio/mpeg",
            )
            for name in ("vocals", "instrumental")
        ),
        uri=f"{folder}/manifest.json",
    )


def test_catalogue_file_has_the_documented_columns_and_keeps_commas():
    rows = list(csv.DictReader(io.StringIO(catalogue_file(SONGS).decode())))

    assert rows[0] == {**SONGS[0], "duration": "19.2"}
    assert list(rows[1]) == ["key", "title", "task_id", "audio_id", "duration"]


def test_read_manifests_returns_those_of_one_separation_type_below_the_destination(s3):
    for one in (manifest("daisy"), manifest("daisy", "split_stem"), manifest("lomond")):
        s3.put_object(Bucket="stems", Key=one.uri.removeprefix("s3://stems/"), Body=one.to_json())
    s3.put_object(Bucket="stems", Key="catalogue-of-others/x/manifest.json", Body=b"{}")

    found = read_manifests(ObjectStore(s3), Location("stems", "catalogue"), "separate_vocal")

    assert [one.track["key"] for one in found] == ["daisy", "lomond"]
    assert {one.separation_type.value for one in found} == {"separate_vocal"}


class TestBuildReport:
    @pytest.fixture
    def report(self):
        return build_report(
            state="failed",
            tracks=["daisy", "lomond"],
            manifests=[manifest("removed-from-the-catalogue"), manifest("daisy")],
            books=Totals(submits=5, credits=50) - Totals(submits=3, credits=30),
            seconds=61.234,
            bucket="stems",
        )

    def test_report_counts_only_this_run_and_this_catalogue(self, report):
        items = report.pop("items")

        assert report == {
            "dag_run_state": "failed",
            "tracks": 2,
            "landed": 1,
            "stems": 2,
            "seconds": 61.2,
            "bucket": "stems",
            "credits_charged": 20,
            "submits": 2,
        }
        assert [item["stem"] for item in items] == ["vocals", "instrumental"]

    def test_items_contain_the_address_and_digest_of_each_stem(self, report):
        assert report["items"][0] == {
            "track": "daisy",
            "stem": "vocals",
            "uri": "s3://stems/catalogue/daisy/separate_vocal/vocals.mp3",
            "bytes": 1000,
            "sha256": "0" * 64,
            "duration_seconds": 19.2,
        }
        assert json.loads(json.dumps(report)) == report
