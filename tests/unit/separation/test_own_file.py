from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import MAX_OWN_FILE_BYTES, Track
from airflow_provider_vocalsep.separation.own_file import SourceError, prepare_file
from airflow_provider_vocalsep.storage.store import ObjectStore

IN_S3 = Track(key="one", audio_url="s3://music/a%20b/ünïcode 🎵.wav")
PLACE = {"Bucket": "music", "Key": "a%20b/ünïcode 🎵.wav", "ChecksumMode": "ENABLED"}


@pytest.fixture
def store():
    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    return ObjectStore(client)


@pytest.fixture
def stub(store):
    with Stubber(store.client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


class TestAnOwnFileInS3:
    def test_is_presigned_for_the_vendor_and_known_by_its_etag(self, store, stub):
        stub.add_response("head_object", {"ContentLength": 1000, "ETag": '"abc"'}, PLACE)
        source = prepare_file(IN_S3, store)
        assert source.fingerprint == "abc"
        assert source.track.audio_url.startswith("https://music.s3.")
        assert "a%2520b/%C3%BCn%C3%AFcode%20" in source.track.audio_url
        assert "Signature=" in source.track.audio_url
        assert source.track.key == "one"

    def test_that_is_too_large_is_refused_with_what_to_do(self, store, stub):
        stub.add_response("head_object", {"ContentLength": MAX_OWN_FILE_BYTES + 1, "ETag": '"abc"'})
        with pytest.raises(
            TrackError, match=r"'one'.*at most 20 MB. Nothing was submitted; encode it smaller"
        ):
            prepare_file(IN_S3, store)

    def test_of_exactly_the_limit_is_taken(self, store, stub):
        stub.add_response("head_object", {"ContentLength": MAX_OWN_FILE_BYTES, "ETag": '"abc"'})
        assert prepare_file(IN_S3, store).fingerprint == "abc"

    def test_that_does_not_exist_is_a_fault_of_the_track(self, store, stub):
        stub.add_client_error("head_object", "404", http_status_code=404)
        with pytest.raises(TrackError, match="'one'.*does not exist"):
            prepare_file(IN_S3, store)

    def test_that_may_not_be_read_names_the_permission(self, store, stub):
        stub.add_client_error("head_object", "403", http_status_code=403)
        with pytest.raises(SourceError, match="'one'.*the store refuses it.*s3:GetObject"):
            prepare_file(IN_S3, store)


class TestAnOwnFileOnTheWeb:
    def of(self, httpserver) -> Track:
        return Track(key="one", audio_url=httpserver.url_for("/song.wav"))

    def test_is_sent_as_it_is(self, httpserver):
        httpserver.expect_request("/song.wav").respond_with_data(b"RIFF")
        assert prepare_file(self.of(httpserver), None).track == self.of(httpserver)

    def test_that_announces_too_much_is_refused(self, httpserver):
        httpserver.expect_request("/song.wav").respond_with_data(b"x" * (MAX_OWN_FILE_BYTES + 1))
        with pytest.raises(TrackError, match="'one'.*20.0 MB"):
            prepare_file(self.of(httpserver), None)

    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_that_this_worker_cannot_look_at_is_left_to_the_vendor(self, httpserver, status):
        httpserver.expect_request("/song.wav").respond_with_data(b"no", status=status)
        assert prepare_file(self.of(httpserver), None).track == self.of(httpserver)

    def test_whose_host_is_not_there_is_left_to_the_vendor(self):
        track = Track(key="one", audio_url="http://vocalsep.invalid/a.wav")
        assert prepare_file(track, None).track == track


def test_a_generated_track_needs_no_look():
    track = Track(key="one", task_id="t", audio_id="a")
    assert prepare_file(track, None).track is track
