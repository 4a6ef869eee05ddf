from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import MAX_OWN_FILE_BYTES, Track
from airflow_provider_vocalsep.separation.own_file import SourceError, prepare_file
from airflow_provider_vocalsep.storage.store import ObjectStore

IN_S3 = Track(key="one", audio_url="s3://music/a%20b/ünïcode 🎵.wav")
HEAD = {"Bucket": "music", "Key": "a%20b/ünïcode 🎵.wav", "ChecksumMode": "ENABLED"}


def on_web(httpserver) -> Track:
    return Track(key="one", audio_url=httpserver.url_for("/song.wav"))


class TestPrepareFileInS3:
    @pytest.fixture
    def store(self):
        client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        return ObjectStore(client)

    @pytest.fixture
    def stub(self, store):
        with Stubber(store.client) as stubber:
            yield stubber
            stubber.assert_no_pending_responses()

    def test_object_is_presigned_and_its_etag_is_the_fingerprint(self, store, stub):
        stub.add_response("head_object", {"ContentLength": 1000, "ETag": '"abc"'}, HEAD)

        prepared = prepare_file(IN_S3, store)

        assert prepared.fingerprint == "abc"
        assert prepared.track.audio_url.startswith("https://music.s3.")
        assert "a%2520b/%C3%BCn%C3%AFcode%20" in prepared.track.audio_url
        assert "Signature=" in prepared.track.audio_url
        assert prepared.track.key == "one"

    def test_object_above_the_limit_is_refused_with_the_remedy(self, store, stub):
        stub.add_response("head_object", {"ContentLength": MAX_OWN_FILE_BYTES + 1, "ETag": '"abc"'})

        with pytest.raises(
            TrackError, match=r"'one'.*at most 20 MB. Nothing was submitted; encode it smaller"
        ):
            prepare_file(IN_S3, store)

    def test_object_of_exactly_the_limit_is_accepted(self, store, stub):
        stub.add_response("head_object", {"ContentLength": MAX_OWN_FILE_BYTES, "ETag": '"abc"'})

        assert prepare_file(IN_S3, store).fingerprint == "abc"

    def test_missing_object_is_an_error_of_the_track(self, store, stub):
        stub.add_client_error("head_object", "404", http_status_code=404)

        with pytest.raises(TrackError, match="'one'.*does not exist"):
            prepare_file(IN_S3, store)

    def test_object_without_permission_names_the_permission_and_is_retried(self, store, stub):
        stub.add_client_error("head_object", "403", http_status_code=403)

        with pytest.raises(SourceError, match="'one'.*the store refuses it.*s3:GetObject"):
            prepare_file(IN_S3, store)


class TestPrepareFileOnTheWeb:
    def test_address_is_submitted_unchanged(self, httpserver):
        httpserver.expect_request("/song.wav").respond_with_data(b"RIFF")

        assert prepare_file(on_web(httpserver), None).track == on_web(httpserver)

    def test_file_above_the_limit_is_refused(self, httpserver):
        httpserver.expect_request("/song.wav").respond_with_data(b"x" * (MAX_OWN_FILE_BYTES + 1))

        with pytest.raises(TrackError, match="'one'.*20.0 MB"):
            prepare_file(on_web(httpserver), None)

    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_file_that_this_worker_cannot_read_is_left_to_the_vendor(self, httpserver, status):
        httpserver.expect_request("/song.wav").respond_with_data(b"no", status=status)

        assert prepare_file(on_web(httpserver), None).track == on_web(httpserver)

    def test_unknown_host_is_left_to_the_vendor(self):
        track = Track(key="one", audio_url="http://vocalsep.invalid/a.wav")

        assert prepare_file(track, None).track == track


class TestPrepareFileOfAGeneratedTrack:
    def test_track_is_submitted_unchanged(self):
        track = Track(key="one", task_id="t", audio_id="a")

        assert prepare_file(track, None).track is track
