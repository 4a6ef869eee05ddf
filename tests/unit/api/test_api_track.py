from __future__ import annotations

import pytest
from pydantic import ValidationError

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.track import MAX_OWN_FILE_BYTES, Track


class TestTrack:
    def test_generated_track_has_two_ids(self):
        track = Track.parse({"key": "moon", "task_id": "t1", "audio_id": "a1"})

        assert (track.key, track.task_id, track.audio_id, track.audio_url) == ("moon", "t1", "a1", None)

    @pytest.mark.parametrize("url", ["https://h/x.mp3", "http://127.0.0.1:9000/x.mp3", "s3://bucket/x.wav"])
    def test_own_file_has_a_url(self, url):
        assert Track.parse({"key": "sun", "audio_url": url}).audio_url == url

    def test_blanks_numbers_and_extra_columns_of_a_table_are_accepted(self):
        row = {
            "key": 17,
            "task_id": " t1 ",
            "audio_id": "a1\n",
            "audio_url": "",
            "title": " ",
            "duration": "12.5",
            "isrc": "X",
        }

        track = Track.parse(row)

        assert track == Track(key="17", task_id="t1", audio_id="a1", duration=12.5)
        assert not hasattr(track, "isrc")

    @pytest.mark.parametrize("duration", ["", None, 0, "0", 0.0], ids=repr)
    def test_empty_or_zero_duration_is_unknown(self, duration):
        assert (
            Track.parse({"key": "a", "task_id": "t", "audio_id": "a", "duration": duration}).duration is None
        )

    @pytest.mark.parametrize("title, label", [(None, "moon"), ("", "moon"), ("Blue Moon", "Blue Moon")])
    def test_label_is_the_title_or_else_the_key(self, title, label):
        assert Track.parse({"key": "moon", "task_id": "t", "audio_id": "a", "title": title}).label == label

    def test_parse_returns_a_track_unchanged(self):
        track = Track(key="moon", task_id="t1", audio_id="a1")

        assert Track.parse(track) is track

    def test_track_is_immutable_and_hashable(self):
        track = Track(key="moon", task_id="t1", audio_id="a1")

        with pytest.raises(ValidationError, match="frozen"):
            track.key = "sun"
        assert {track, Track(key="moon", task_id="t1", audio_id="a1")} == {track}

    @pytest.mark.parametrize("key", ["a/b", "..", "with space", "🌙 moon", "x" * 2000])
    def test_any_key_is_accepted(self, key):
        assert Track.parse({"key": key, "task_id": "t", "audio_id": "a"}).key == key

    IDS = {"task_id": "t1", "audio_id": "a1"}

    @pytest.mark.parametrize(
        "value, message",
        [
            pytest.param(
                {"key": "moon"}, "Track 'moon' .*task_id and audio_id missing.*or audio_url", id="no source"
            ),
            pytest.param(
                {"key": "moon", "task_id": "t"}, "Track 'moon' .*: audio_id missing", id="no audio id"
            ),
            pytest.param(
                {"key": "moon", "audio_id": "a"}, "Track 'moon' .*: task_id missing", id="no task id"
            ),
            pytest.param(
                {"key": "moon", "task_id": " ", "audio_id": "a"}, "task_id missing", id="blank task id"
            ),
            pytest.param(
                {"key": "moon", **IDS, "audio_url": "https://h/x"},
                "Track 'moon' .*not both",
                id="two sources",
            ),
            pytest.param(
                {"key": "moon", "task_id": "t", "audio_url": "https://h/x"},
                "not both",
                id="one and a half sources",
            ),
            pytest.param(
                {"key": "moon", "audio_url": "x.mp3"}, "'x.mp3' is not an https:// or s3://", id="a path"
            ),
            pytest.param(
                {"key": "moon", "audio_url": "file:///etc/passwd"}, "not an https://", id="a local file"
            ),
            pytest.param({"key": "moon", "audio_url": "https:///x"}, "not an https://", id="no host"),
            pytest.param({"key": "moon", "audio_url": "https://[::1"}, "Track 'moon'", id="a broken host"),
            pytest.param({"key": "", **IDS}, "no key: give every track a unique name", id="empty key"),
            pytest.param({"key": "  ", **IDS}, "no key: give every track a unique name", id="blank key"),
            pytest.param(
                {"title": "Blue Moon", **IDS}, "Track 'Blue Moon' .*key: Field required", id="no key"
            ),
            pytest.param({**IDS}, "'task_id': 't1'.*key: Field required", id="no name at all"),
            pytest.param({"key": None, **IDS}, "key: ", id="null key"),
            pytest.param({"key": ["a"], **IDS}, "key: ", id="a list as key"),
            pytest.param(
                {"key": "moon", **IDS, "duration": "3:25"}, "Track 'moon' .*duration: ", id="a clock time"
            ),
            pytest.param({"key": "moon", **IDS, "duration": -1}, "duration: ", id="negative length"),
            pytest.param({"key": "moon", **IDS, "duration": "nan"}, "duration: ", id="not a number"),
            pytest.param({}, "cannot be submitted", id="empty"),
        ],
    )
    def test_invalid_track_raises_with_its_name_and_what_to_change(self, value, message):
        with pytest.raises(TrackError, match=message):
            Track.parse(value)

    @pytest.mark.parametrize("value", [None, "moon", 5, [], ("moon",)], ids=repr)
    def test_value_that_is_not_a_mapping_is_refused(self, value):
        with pytest.raises(TrackError, match="A track is a mapping with key, task_id and audio_id"):
            Track.parse(value)

    def test_track_error_is_a_vocalsep_error_and_a_value_error(self):
        assert issubclass(TrackError, VocalSepError)
        assert issubclass(TrackError, ValueError)


def test_own_file_may_have_twenty_megabytes():
    assert MAX_OWN_FILE_BYTES == 20 * 1024 * 1024
