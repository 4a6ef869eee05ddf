"""An own file: one identity whatever signs its address, sent with a fresh link, and not needed to land."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.operator_bench import BUCKET
from tests.support.vendor import too_fast

OWN = {"key": "one", "audio_url": f"s3://{BUCKET}/own/song.mp3"}

AZURE = (
    "https://acct.blob.core.windows.net/c/a.mp3?sv=2024-01-01&se=2026-01-0{day}T00%3A00Z&sr=b&sp=r&sig={sig}"
)


class TestAMovedSource:
    @pytest.fixture(params=["single", "batch"])
    def operator(self, request, bench):
        bench.store.put(BUCKET, "own/song.mp3", b"RIFF", content_type="audio/mpeg")
        return bench.separate(track=OWN) if request.param == "single" else bench.batch(tracks=[OWN])

    @pytest.fixture
    def deferred(self, bench, vendor, operator):
        """Submit it, and move the file on."""
        deferred = bench.deferral(operator)
        bench.delete("own/song.mp3")
        return deferred

    def test_stems_land_without_it(self, bench, vendor, operator, deferred):  # M7
        vendor.finish()

        bench.finish(operator, deferred)

        assert bench.entry().state.value == "landed"

    @pytest.mark.xfail(strict=True, reason="M7")
    def test_retry_lands_the_stems_without_it(self, bench, vendor, operator, deferred):
        vendor.finish()

        bench.run(operator)

        assert (bench.entry().state.value, vendor.charges) == ("landed", 1)

    @pytest.mark.xfail(strict=True, reason="M7")
    def test_retry_waits_for_the_task_without_it(self, bench, vendor, operator, deferred):
        assert bench.deferral(operator).method_name == "execute_complete"

    @pytest.mark.xfail(strict=True, reason="M7")
    def test_other_run_lands_the_stems_without_it(self, bench, vendor, operator, deferred):
        vendor.finish()

        bench.another_run().run(operator)

        assert (bench.entry().state.value, vendor.charges) == ("landed", 1)

    @pytest.mark.xfail(strict=True, reason="M7")
    def test_landed_track_is_found_without_it(self, bench, vendor, operator, deferred):
        vendor.finish()
        bench.finish(operator, deferred)

        bench.another_run().run(operator)

        assert vendor.charges == 1

    def test_track_that_was_never_submitted_needs_it(self, bench, vendor, operator):  # M7, kept
        bench.delete("own/song.mp3")

        with pytest.raises(Exception, match="does not exist. Nothing was submitted"):
            bench.run(operator)

        assert vendor.calls == 0


class TestThePresignedLink:
    """M18: a link dies with the credentials that signed it, after an hour where they belong to a role."""

    @pytest.mark.parametrize("kind", ["single", "batch"])
    @pytest.mark.xfail(strict=True, reason="M18")
    def test_submit_that_is_sent_again_an_hour_later_has_a_new_link(self, bench, vendor, kind):
        bench.store.put(BUCKET, "own/song.mp3", b"RIFF", content_type="audio/mpeg")
        vendor.fates = [too_fast()]
        bench.in_the_back_off(lambda: bench.sleep(3600))

        bench.deferral(bench.separate(track=OWN) if kind == "single" else bench.batch(tracks=[OWN]))

        first, second = [parse_qs(urlsplit(track.audio_url).query)["Expires"][0] for track in vendor.sent]
        assert int(second) - int(first) >= 3600


class TestTheIdentityOfAnAddress:
    """M12."""

    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch):
        def refuse(*_: object, **__: object) -> None:
            raise requests.ConnectionError("there is no network here")

        monkeypatch.setattr(requests, "get", refuse)

    def separate_both(self, bench, first, second):
        tracks = [{"key": "one", "audio_url": first}, {"key": "two", "audio_url": second}]
        bench.deferral(bench.batch(tracks=tracks))

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param(
                "https://h.example/audio?policyNumber=17",
                "https://h.example/audio?policyNumber=18",
                id="policyNumber",
            ),
            pytest.param(
                "https://h.example/a?signature_id=1", "https://h.example/a?signature_id=2", id="signature_id"
            ),
            pytest.param(
                "https://h.example/a?expiresIn=1", "https://h.example/a?expiresIn=2", id="expiresIn"
            ),
            pytest.param(
                "https://h.example/a?x-amz-song=1", "https://h.example/a?x-amz-song=2", id="x-amz-song"
            ),
        ],
    )
    def test_parameters_that_only_begin_like_a_signature_tell_files_apart(self, bench, vendor, first, second):
        self.separate_both(bench, first, second)

        assert vendor.charges == 2

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param(
                AZURE.format(day=1, sig="ONE"),
                AZURE.format(day=2, sig="TWO"),
                id="Azure SAS",
            ),
            pytest.param(
                "https://b.s3.amazonaws.com/a.mp3?AWSAccessKeyId=A&Signature=ONE&Expires=1",
                "https://b.s3.amazonaws.com/a.mp3?AWSAccessKeyId=A&Signature=TWO&Expires=2",
                id="S3 SigV2",
            ),
            pytest.param(
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A"
                "&X-Amz-Date=20261123T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ONE",
                "https://b.s3.amazonaws.com/a.mp3?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A"
                "&X-Amz-Date=20261124T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=TWO"
                "&X-Amz-Security-Token=T",
                id="S3 SigV4",
            ),
            pytest.param(
                "https://storage.googleapis.com/b/a.mp3?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=A"
                "&X-Goog-Date=20261123T000000Z&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature=ONE",
                "https://storage.googleapis.com/b/a.mp3?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=A"
                "&X-Goog-Date=20261124T000000Z&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature=TWO",
                id="GCS V4",
            ),
            pytest.param(
                "https://storage.googleapis.com/b/a.mp3?GoogleAccessId=one%40p&Expires=1&Signature=ONE",
                "https://storage.googleapis.com/b/a.mp3?GoogleAccessId=two%40p&Expires=2&Signature=TWO",
                id="GCS V2",
            ),
            pytest.param(
                "https://d1.cloudfront.net/a.mp3?Expires=1&Signature=ONE&Key-Pair-Id=K",
                "https://d1.cloudfront.net/a.mp3?Policy=P&Signature=TWO&Key-Pair-Id=K",
                id="CloudFront",
            ),
        ],
    )
    def test_new_signature_of_the_same_file_pays_nothing(self, bench, vendor, first, second):
        self.separate_both(bench, first, second)

        assert vendor.charges == 1
        stored = b"".join(bench.store.get(BUCKET, key) for key in bench.keys())
        assert b"ONE" not in stored
        assert b"TWO" not in stored

    def test_other_parameters_of_a_signed_address_tell_files_apart(self, bench, vendor):  # M12
        signed = "https://d1.cloudfront.net/a.mp3?id={}&Expires=1&Signature=S&Key-Pair-Id=K"

        self.separate_both(bench, signed.format(1), signed.format(2))

        assert vendor.charges == 2
