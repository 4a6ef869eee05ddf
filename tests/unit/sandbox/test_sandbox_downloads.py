from __future__ import annotations

import io

import pytest
import requests
import soundfile
from sandbox_caller import wait_for


@pytest.fixture
def url(vendor):
    return vendor.separated()["response"]["vocalUrl"]


@pytest.fixture
def stem(vendor, url):
    return vendor.get(url).content


class TestDownload:
    def test_stem_is_an_mp3_of_the_recorded_duration(self, vendor):
        (item, _) = vendor.separated()["response"]["originData"]

        answer = vendor.get(item["audio_url"])

        assert answer.headers["content-type"] == "audio/mpeg"
        assert int(answer.headers["content-length"]) == len(answer.content)
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert len(samples) / rate == pytest.approx(item["duration"], abs=0.1)

    def test_ranges_of_one_etag_make_up_the_stem(self, vendor, url, stem):
        first = vendor.get(url, headers={"Range": "bytes=0-99"})

        assert (first.status_code, first.content) == (206, stem[:100])
        assert first.headers["content-range"] == f"bytes 0-99/{len(stem)}"
        rest = vendor.get(url, headers={"Range": "bytes=100-", "If-Range": first.headers["etag"]})
        assert (rest.status_code, first.content + rest.content) == (206, stem)

    def test_range_of_another_etag_returns_the_whole_stem(self, vendor, url, stem):
        answer = vendor.get(url, headers={"Range": "bytes=100-", "If-Range": '"another"'})

        assert (answer.status_code, answer.content) == (200, stem)

    def test_range_beyond_the_end_is_refused(self, vendor, url, stem):
        answer = vendor.get(url, headers={"Range": f"bytes={len(stem)}-"})

        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(stem)}")

    def test_head_returns_the_length_and_counts_no_download(self, vendor, url, stem):
        answer = vendor.session.head(url, timeout=5)

        assert (answer.status_code, answer.headers["content-length"], answer.content) == (
            200,
            str(len(stem)),
            b"",
        )
        assert vendor.sandbox.totals()["downloads"] == 1

    def test_pythons_default_user_agent_is_refused_unless_allowed(self, vendor, calling, url):
        agent = {"User-Agent": "Python-urllib/3.11"}

        assert vendor.get(url, headers=agent).status_code == 403
        tolerant = calling(allow_urllib=True)
        assert tolerant.get(tolerant.separated()["response"]["vocalUrl"], headers=agent).status_code == 200

    def test_download_needs_no_api_key(self, url, stem):
        assert requests.get(url, timeout=5).content == stem

    def test_unknown_file_name_returns_404(self, vendor, url):
        assert vendor.get(url.replace("Vocals", "Drums")).status_code == 404

    def test_link_expires(self, calling):
        caller = calling(link_expiry=0.3)

        url = caller.separated()["response"]["vocalUrl"]

        assert caller.get(url).status_code == 200
        wait_for(lambda: caller.get(url).status_code == 403)


class TestDownloadFaults:
    @pytest.mark.parametrize(
        ("kind", "settings", "status", "content"),
        [
            ("html", {}, 200, b"<!DOCTYPE html>"),
            ("empty", {}, 200, b""),
            ("expired", {}, 403, b"link expired"),
            ("expired", {"status": 404}, 404, b"link expired"),
        ],
        ids=["html page", "empty", "expired", "gone"],
    )
    def test_fault_replaces_the_answer_once(self, vendor, url, stem, kind, settings, status, content):
        vendor.sandbox.set_fault("download", kind, times=1, **settings)

        answer = vendor.get(url)

        assert (answer.status_code, answer.content[:15]) == (status, content[:15])
        assert vendor.get(url).content == stem

    @pytest.mark.parametrize(
        "to", [None, "http://169.254.169.254/latest/meta-data"], ids=["loopback", "metadata"]
    )
    def test_redirect_points_to_a_private_address(self, vendor, url, to):
        vendor.sandbox.set_fault("download", "redirect", **({"to": to} if to else {}))

        answer = vendor.get(url, allow_redirects=False)

        assert (answer.status_code, answer.headers["location"]) == (
            302,
            to or "http://127.0.0.1:1/private.mp3",
        )

    def test_short_sends_less_than_announced(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "short", times=1)
        with vendor.get(url, stream=True) as answer:
            assert int(answer.headers["content-length"]) > len(stem)
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                _ = answer.content

    def test_drop_closes_the_connection_and_a_range_returns_the_rest(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "drop", after=700, times=1)
        received = []

        with vendor.get(url, stream=True) as answer:
            assert int(answer.headers["content-length"]) == len(stem)
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                received.extend(answer.iter_content(100))

        assert b"".join(received) == stem[:700]
        rest = vendor.get(url, headers={"Range": "bytes=700-", "If-Range": answer.headers["etag"]})
        assert (rest.status_code, stem[:700] + rest.content) == (206, stem)

    def test_corrupt_changes_the_bytes_and_the_etag(self, vendor, url, stem):
        whole = vendor.get(url)
        vendor.sandbox.set_fault("download", "corrupt", after=500)

        answer = vendor.get(url)

        assert (answer.content[:500], len(answer.content)) == (stem[:500], len(stem))
        assert answer.content[500:] != stem[500:]
        assert answer.headers["etag"] != whole.headers["etag"]

    def test_no_range_returns_the_whole_stem(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "no_range")

        answer = vendor.get(url, headers={"Range": "bytes=700-"})

        assert (answer.status_code, answer.content) == (200, stem)

    def test_fault_of_one_stem_spares_the_others(self, vendor):
        response = vendor.separated()["response"]

        vendor.sandbox.set_fault("download", "expired", stem="vocals")

        assert vendor.get(response["vocalUrl"]).status_code == 403
        assert vendor.get(response["instrumentalUrl"]).status_code == 200
