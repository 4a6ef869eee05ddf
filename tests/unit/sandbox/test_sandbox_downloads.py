"""Stems as the vendor's CDN serves them, on good and on bad days."""

from __future__ import annotations

import io

import pytest
import requests
import soundfile
from sandbox_caller import until


@pytest.fixture
def url(vendor):
    return vendor.separated()["response"]["vocalUrl"]


@pytest.fixture
def stem(vendor, url):
    return vendor.get(url).content


class TestAStem:
    def test_is_an_mp3_of_the_announced_length(self, vendor):
        (item, _) = vendor.separated()["response"]["originData"]
        answer = vendor.get(item["audio_url"])
        assert answer.headers["content-type"] == "audio/mpeg"
        assert int(answer.headers["content-length"]) == len(answer.content)
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert len(samples) / rate == pytest.approx(item["duration"], abs=0.1)

    def test_can_be_asked_for_in_parts(self, vendor, url, stem):
        first = vendor.get(url, headers={"Range": "bytes=0-99"})
        assert (first.status_code, first.content) == (206, stem[:100])
        assert first.headers["content-range"] == f"bytes 0-99/{len(stem)}"
        rest = vendor.get(url, headers={"Range": "bytes=100-", "If-Range": first.headers["etag"]})
        assert (rest.status_code, first.content + rest.content) == (206, stem)

    def test_comes_whole_when_it_has_changed_since(self, vendor, url, stem):
        answer = vendor.get(url, headers={"Range": "bytes=100-", "If-Range": '"another"'})
        assert (answer.status_code, answer.content) == (200, stem)

    def test_has_no_part_behind_its_end(self, vendor, url, stem):
        answer = vendor.get(url, headers={"Range": f"bytes={len(stem)}-"})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(stem)}")

    def test_can_be_asked_about(self, vendor, url, stem):
        answer = vendor.session.head(url, timeout=5)
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (
            200,
            str(len(stem)),
            b"",
        )
        assert vendor.sandbox.totals()["downloads"] == 1

    def test_is_refused_to_python_s_default_agent(self, vendor, calling, url):
        agent = {"User-Agent": "Python-urllib/3.11"}
        assert vendor.get(url, headers=agent).status_code == 403
        tolerant = calling(allow_urllib=True)
        assert tolerant.get(tolerant.separated()["response"]["vocalUrl"], headers=agent).status_code == 200

    def test_needs_no_key(self, url, stem):
        assert requests.get(url, timeout=5).content == stem

    def test_of_another_name_is_not_there(self, vendor, url):
        assert vendor.get(url.replace("Vocals", "Drums")).status_code == 404

    def test_expires(self, calling):
        caller = calling(link_expiry=0.3)
        url = caller.separated()["response"]["vocalUrl"]
        assert caller.get(url).status_code == 200
        until(lambda: caller.get(url).status_code == 403)


class TestFaults:
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
    def test_answer_something_else_once(self, vendor, url, stem, kind, settings, status, content):
        vendor.sandbox.set_fault("download", kind, times=1, **settings)
        answer = vendor.get(url)
        assert (answer.status_code, answer.content[:15]) == (status, content[:15])
        assert vendor.get(url).content == stem

    @pytest.mark.parametrize(
        "to", [None, "http://169.254.169.254/latest/meta-data"], ids=["loopback", "metadata"]
    )
    def test_redirect_to_a_private_address(self, vendor, url, to):
        vendor.sandbox.set_fault("download", "redirect", **({"to": to} if to else {}))
        answer = vendor.get(url, allow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (
            302,
            to or "http://127.0.0.1:1/private.mp3",
        )

    def test_send_less_than_announced(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "short", times=1)
        with vendor.get(url, stream=True) as answer:
            assert int(answer.headers["content-length"]) > len(stem)
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                _ = answer.content

    def test_drop_the_connection_and_let_the_rest_be_asked_for(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "drop", after=700, times=1)
        got = []
        with vendor.get(url, stream=True) as answer:
            assert int(answer.headers["content-length"]) == len(stem)
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                got.extend(answer.iter_content(100))
        assert b"".join(got) == stem[:700]
        rest = vendor.get(url, headers={"Range": "bytes=700-", "If-Range": answer.headers["etag"]})
        assert (rest.status_code, stem[:700] + rest.content) == (206, stem)

    def test_corrupt_the_file_under_another_etag(self, vendor, url, stem):
        whole = vendor.get(url)
        vendor.sandbox.set_fault("download", "corrupt", after=500)
        answer = vendor.get(url)
        assert (answer.content[:500], len(answer.content)) == (stem[:500], len(stem))
        assert answer.content[500:] != stem[500:]
        assert answer.headers["etag"] != whole.headers["etag"]

    def test_ignore_ranges(self, vendor, url, stem):
        vendor.sandbox.set_fault("download", "no_range")
        answer = vendor.get(url, headers={"Range": "bytes=700-"})
        assert (answer.status_code, answer.content) == (200, stem)

    def test_can_be_meant_for_one_stem(self, vendor):
        response = vendor.separated()["response"]
        vendor.sandbox.set_fault("download", "expired", stem="vocals")
        assert vendor.get(response["vocalUrl"]).status_code == 403
        assert vendor.get(response["instrumentalUrl"]).status_code == 200
