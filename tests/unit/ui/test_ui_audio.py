from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.storage.location import Location
from tests.support.sample_bucket import BUCKET, OPEN, manifest_key, stem_bytes, stem_key

AUDIO = stem_bytes("song")
NAMES = {"dag_id": "open", "run_id": "manual__1", "task_id": "separate", "map_index": -1, "track": "song"}


@pytest.fixture
def play(ask, sample):
    sample.report([sample.land("song", OPEN, title="A song")], OPEN)

    def play(wanted=None, *, method="GET", stem="vocals", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if wanted:
            headers["range"] = wanted
        return ask("/api/audio", method=method, headers=headers, **NAMES, stem=stem)

    return play


class TestStreamStem:
    def test_whole_stem_is_sent_without_a_range(self, play):
        answer = play()

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
    def test_part_is_sent_for_a_range(self, play, wanted, first, last):
        answer = play(wanted)

        assert answer.status_code == 206
        assert answer.content == AUDIO[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(AUDIO)}"

    def test_range_behind_the_end_is_refused(self, play):
        assert play("bytes=20000-").status_code == 416

    @pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "lines=1-2", "bytes=", "bytes=a-b", "bytes=1 - 2"])
    def test_other_ranges_are_ignored(self, play, wanted):
        answer = play(wanted)

        assert (answer.status_code, answer.content) == (200, AUDIO)

    def test_range_of_another_version_is_ignored(self, play):
        etag = play().headers["etag"]

        assert play("bytes=0-9", if_range=etag).status_code == 206
        assert play("bytes=0-9", if_range='"another"').status_code == 200

    def test_head_request_has_the_headers_without_the_bytes(self, play):
        answer = play(method="HEAD")

        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(AUDIO))

    def test_airflow_does_not_compress_a_stem(self, play):
        assert play("bytes=0-5000", accept_encoding="gzip").headers["content-encoding"] == "identity"

    def test_media_type_that_is_not_audio_is_not_passed_on(self, play, sample):
        manifest = sample.json(manifest_key("song"))
        manifest["stems"][0]["content_type"] = "text/html"
        sample.put(manifest_key("song"), json.dumps(manifest).encode())

        assert play().headers["content-type"] == "application/octet-stream"


class TestRefusals:
    def test_stem_that_the_track_does_not_have_is_not_found(self, play):
        assert play(stem="drums").status_code == 404

    def test_track_that_the_run_does_not_have_is_not_found(self, ask, play):
        assert ask("/api/audio", **{**NAMES, "track": "other"}, stem="vocals").status_code == 404

    def test_stem_that_no_longer_exists_is_an_error(self, play, sample):
        sample.delete(stem_key("song"))

        answer = play()

        assert answer.status_code == 502
        assert "no longer exists" in answer.json()["detail"]

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
    def test_object_outside_of_the_destination_is_not_opened(self, play, sample, uri):
        sample.put("other/secret.mp3", b"secret")
        manifest = sample.json(manifest_key("song"))
        manifest["stems"][0]["uri"] = uri
        sample.put(manifest_key("song"), json.dumps(manifest).encode())

        answer = play()

        assert answer.status_code == 502
        assert "outside" in answer.json()["detail"]

    @pytest.mark.parametrize("field", ["manifest", "entry"])
    def test_manifest_or_entry_outside_of_the_destination_is_not_opened(self, ask, sample, field):
        row = sample.land("song", OPEN)
        key = getattr(row, field).removeprefix(f"s3://{BUCKET}/")
        sample.put("other/x.json", sample.get(key))
        sample.report([row.model_copy(update={field: "s3://stems/other/x.json"})], OPEN)

        details = ask("/api/track", **NAMES).json()

        assert details[field] is None
        assert any("outside" in problem for problem in details["problems"])


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
def test_only_an_object_in_the_location_has_a_key(prefix, uri, key):
    assert Location("stems", prefix).key_of(uri) == key
