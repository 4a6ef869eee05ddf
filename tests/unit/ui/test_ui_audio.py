from __future__ import annotations

import json

import pytest
from ui_world import AUDIO, BUCKET, asker

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.runs.listing import Destination
from airflow_provider_vocalsep.storage.location import Location

NAMES = {"dag_id": "open", "run_id": "manual__1", "task_id": "separate", "map_index": -1, "track": "song"}


@pytest.fixture
def hear(ask, bucket):
    who = asker()
    bucket.report(who, [bucket.land(who, "song", "A song")])

    def hear(wanted=None, *, method="GET", stem="vocals", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if wanted:
            headers["range"] = wanted
        return ask("/api/audio", method=method, headers=headers, **NAMES, stem=stem)

    return hear


class TestRanges:
    def test_without_one_all_is_sent(self, hear):
        answer = hear()
        assert answer.status_code == 200
        assert answer.content == AUDIO
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["content-length"] == str(len(AUDIO))

    @pytest.mark.parametrize(
        ("wanted", "first", "last"),
        [
            ("bytes=0-", 0, 10239),
            ("bytes=100-199", 100, 199),
            ("bytes=-40", 10200, 10239),
            ("bytes=9-99999", 9, 10239),
        ],
    )
    def test_a_part_is_sent_as_such(self, hear, wanted, first, last):
        answer = hear(wanted)
        assert answer.status_code == 206
        assert answer.content == AUDIO[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(AUDIO)}"

    def test_one_behind_the_end_is_refused(self, hear):
        assert hear("bytes=20000-").status_code == 416

    @pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "lines=1-2", "bytes=", "bytes=a-b", "bytes=1 - 2"])
    def test_what_is_not_understood_is_ignored(self, hear, wanted):
        answer = hear(wanted)
        assert (answer.status_code, answer.content) == (200, AUDIO)

    def test_one_of_another_version_is_ignored(self, hear):
        etag = hear().headers["etag"]
        assert hear("bytes=0-9", if_range=etag).status_code == 206
        assert hear("bytes=0-9", if_range='"another"').status_code == 200

    def test_the_head_says_the_same_without_the_bytes(self, hear):
        answer = hear(method="HEAD")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(AUDIO))

    def test_airflow_is_kept_from_compressing(self, hear):
        assert hear("bytes=0-5000", accept_encoding="gzip").headers["content-encoding"] == "identity"


class TestWhatIsNotServed:
    def test_a_stem_that_the_track_does_not_have(self, hear):
        assert hear(stem="drums").status_code == 404

    def test_a_track_that_the_run_does_not_have(self, ask, hear):
        assert ask("/api/audio", **{**NAMES, "track": "other"}, stem="vocals").status_code == 404

    def test_a_stem_that_is_gone(self, hear, client):
        client.delete_object(Bucket=BUCKET, Key="music/song/separate_vocal/vocals.mp3")
        answer = hear()
        assert answer.status_code == 502
        assert "is not there any more" in answer.json()["detail"]

    @pytest.mark.parametrize(
        "uri",
        [
            "s3://stems/other/secret.mp3",
            "s3://stems/music/../other/secret.mp3",
            "s3://other/music/secret.mp3",
            "s3://stems/musical/secret.mp3",
            "file:///etc/passwd",
            "https://169.254.169.254/",
            "",
        ],
    )
    def test_an_object_outside_of_the_destination_whatever_the_manifest_says(self, hear, bucket, client, uri):
        client.put_object(Bucket=BUCKET, Key="other/secret.mp3", Body=b"secret")
        place = Location.parse(bucket.uri).stems("song", SeparationType.SEPARATE_VOCAL)
        manifest = json.loads(client.get_object(Bucket=BUCKET, Key=place.manifest_key)["Body"].read())
        manifest["stems"][0]["uri"] = uri
        bucket.put(place.manifest_key, json.dumps(manifest).encode())

        answer = hear()
        assert answer.status_code == 502
        assert "outside" in answer.json()["detail"]

    @pytest.mark.parametrize("field", ["manifest", "entry"])
    def test_a_manifest_or_entry_elsewhere_whatever_the_report_says(self, ask, bucket, client, field):
        who = asker()
        row = bucket.land(who, "song")
        key = getattr(row, field).removeprefix(f"s3://{BUCKET}/")
        client.copy_object(Bucket=BUCKET, Key="other/x.json", CopySource={"Bucket": BUCKET, "Key": key})
        bucket.report(who, [row.model_copy(update={field: "s3://stems/other/x.json"})])

        told = ask("/api/track", **NAMES).json()
        assert told[field] is None
        assert any("outside" in problem for problem in told["problems"])

    def test_a_page_that_pretends_to_be_a_stem(self, hear, bucket, client):
        place = Location.parse(bucket.uri).stems("song", SeparationType.SEPARATE_VOCAL)
        manifest = json.loads(client.get_object(Bucket=BUCKET, Key=place.manifest_key)["Body"].read())
        manifest["stems"][0]["content_type"] = "text/html"
        bucket.put(place.manifest_key, json.dumps(manifest).encode())

        assert hear().headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("prefix", "uri", "key"),
    [
        ("music", "s3://stems/music/a.mp3", "music/a.mp3"),
        ("", "s3://stems/a.mp3", "a.mp3"),
        ("music", "s3://stems/music", None),
        ("music", "s3://stems/music/", None),
        ("music", "s3://stems/music/./a", None),
        ("", "s3://stems/../a", None),
        ("music", None, None),
    ],
)
def test_only_what_lies_there_has_a_key(prefix, uri, key):
    assert Destination("stems", prefix).key_of(uri) == key
