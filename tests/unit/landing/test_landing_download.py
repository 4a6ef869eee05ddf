from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.api.errors import StoppedError
from airflow_provider_vocalsep.landing import download as download_module
from airflow_provider_vocalsep.landing.download import Download
from airflow_provider_vocalsep.landing.errors import (
    ContentChangedError,
    DownloadError,
    DownloadRefusedError,
    LinkExpiredError,
)
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.session import guarded_session
from tests.support.stem_host import mp3_of_bytes

if TYPE_CHECKING:
    from tests.support.stem_host import StemHost

BODY = mp3_of_bytes(700_000)


@pytest.fixture(autouse=True)
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "TRIES", 3)


def fetch(url: str, *, step: int = 200_000, **limits: Any) -> tuple[bytes, Download]:
    """
    Download a file.

    :param step: Size of the buffer.
    :param limits: Arguments of the guard.
    """
    guard = DownloadGuard(allow_private_hosts=True, **limits)
    content = b""
    with Download(guarded_session(guard), guard, url, max_wait=0.001) as download:
        while not download.finished:
            buffer = bytearray(step)
            content += buffer[: download.read_into(buffer, step)]
    return bytes(content), download


class TestDownload:
    @pytest.mark.parametrize("step", [1, 1000, 699_999, 2_000_000])
    def test_content_does_not_depend_on_the_size_of_the_buffer(self, host: StemHost, step: int) -> None:
        body = BODY[:1000] if step == 1 else BODY

        content, download = fetch(host.serve("/a", body), step=step)

        assert content == body
        assert download.sha256 == hashlib.sha256(body).hexdigest()
        assert download.received == download.total == len(body)

    def test_chunked_answer_needs_no_content_length(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", BODY, chunked=True))[0] == BODY

    def test_file_may_be_empty(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", b""))[0] == b""

    def test_redirect_is_followed(self, host: StemHost) -> None:
        host.serve("/b", BODY)

        assert fetch(host.serve("/a", redirect_to="/b"))[0] == BODY

    def test_connection_is_reused_for_the_next_download(self, host: StemHost) -> None:
        url, guard = host.serve("/a", BODY), DownloadGuard(allow_private_hosts=True)
        session = guarded_session(guard)

        for _ in range(3):
            with Download(session, guard, url) as download:
                download.read_into(bytearray(len(BODY)), len(BODY))

        assert host.connections == 1

    def test_stop_event_ends_the_download(self, host: StemHost) -> None:
        guard, stopped = DownloadGuard(allow_private_hosts=True), threading.Event()
        url = host.serve("/a", BODY)
        with Download(guarded_session(guard), guard, url, stopped=stopped) as download:
            download.read_into(bytearray(1000), 1000)
            stopped.set()

            with pytest.raises(StoppedError):
                download.read_into(bytearray(1000), 1000)


class TestResumption:
    @pytest.mark.parametrize("seed", range(5))
    def test_broken_download_resumes_where_it_broke_off(self, host: StemHost, seed: int) -> None:
        source = random.Random(seed)
        cuts = [source.randrange(0, 200_000) for _ in range(4)]

        content, download = fetch(host.serve("/a", BODY, cuts=cuts))

        assert content == BODY
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()
        assert "bytes=" in host.requested_ranges("/a")[-1]

    def test_rest_is_requested_only_of_the_same_version(self, host: StemHost) -> None:
        fetch(host.serve("/a", BODY, cuts=[100_000]))

        _, headers = host.requests[-1]
        assert headers["if-range"] == '"one"'

    @pytest.mark.parametrize(
        "faults",
        [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}],
        ids=["ignores Range", "no ETag", "weak ETag"],
    )
    def test_file_is_read_from_its_start_if_the_host_does_not_serve_the_rest(
        self, host: StemHost, faults: dict[str, Any]
    ) -> None:
        content, download = fetch(host.serve("/a", BODY, cuts=[300_000, 500_000], **faults))

        assert content == BODY
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()

    def test_connection_may_break_again_while_known_bytes_are_skipped(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", BODY, cuts=[300_000, 200_000, 10], ranges=False))[0] == BODY

    def test_consecutive_failures_end_the_download(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="broke after 1000 bytes"):
            fetch(host.serve("/a", BODY, cuts=[1000] + [0] * 20))

    @pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
    def test_two_files_of_equal_length_are_never_joined(self, host: StemHost, ranges: bool) -> None:
        other = mp3_of_bytes(700_000, seed=1)

        with pytest.raises(ContentChangedError):
            fetch(host.serve("/a", BODY, cuts=[300_000], next_body=other, ranges=ranges, etag=None))

    def test_two_files_of_different_length_are_never_joined(self, host: StemHost) -> None:
        with pytest.raises(ContentChangedError):
            fetch(host.serve("/a", BODY, cuts=[300_000], next_body=BODY + b"x"))

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 520])
    def test_transient_status_is_retried(self, host: StemHost, status: int) -> None:
        assert fetch(host.serve("/a", BODY, statuses=[status]))[0] == BODY

    def test_unreachable_host_is_named_without_the_link(self) -> None:
        with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*no connection") as e:
            fetch("http://127.0.0.1:9/a.mp3?signature=secret")

        assert "secret" not in str(e.value)

    def test_connections_of_a_host_that_sends_few_bytes_each_are_limited(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download_module, "MAX_CONNECTIONS", 20)

        with pytest.raises(DownloadError, match="20 of 700|21 of|bytes arrived in"):
            fetch(host.serve("/a", BODY, cuts=[1] * 500))

    def test_time_of_a_download_is_limited(self, host: StemHost, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download_module, "MAX_SECONDS", -1.0)
        began = time.monotonic()

        with pytest.raises(DownloadError, match="bytes arrived in"):
            fetch(host.serve("/a", BODY))

        assert time.monotonic() - began < 5


class TestRefusal:
    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_status_of_an_expired_link_is_recognised(self, host: StemHost, status: int) -> None:
        with pytest.raises(LinkExpiredError, match=str(status)):
            fetch(host.serve("/a", BODY, statuses=[status]))

    def test_link_may_expire_during_the_download(self, host: StemHost) -> None:
        url = host.serve("/a", BODY, cuts=[1000])
        guard = DownloadGuard(allow_private_hosts=True)
        with Download(guarded_session(guard), guard, url, max_wait=0.001) as download:
            download.read_into(bytearray(1000), 1000)
            host.files["/a"].statuses = [403]

            with pytest.raises(LinkExpiredError):
                download.read_into(bytearray(1000), 1000)

    @pytest.mark.parametrize("status", [400, 405, 418, 451])
    def test_other_status_is_an_error_without_a_retry(self, host: StemHost, status: int) -> None:
        with pytest.raises(DownloadError, match=str(status)) as e:
            fetch(host.serve("/a", BODY, statuses=[status]))

        assert not isinstance(e.value, LinkExpiredError)
        assert len(host.requests) == 1

    def test_redirects_are_limited(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="redirects"):
            fetch(host.serve("/a", redirect_to="/a"))

        assert len(host.requests) == 6

    @pytest.mark.parametrize(
        "target",
        ["http://169.254.169.254/x", "https://user:pw@example.com/x", "ftp://example.com/x"],
    )
    def test_guard_checks_the_target_of_a_redirect(self, host: StemHost, target: str) -> None:
        with pytest.raises(DownloadRefusedError):
            fetch(host.serve("/a", redirect_to=target))

    def test_too_large_content_length_is_refused(self, host: StemHost) -> None:
        with pytest.raises(DownloadRefusedError, match="max_bytes"):
            fetch(host.serve("/a", BODY), max_bytes=1000)

    def test_too_large_chunked_answer_is_refused(self, host: StemHost) -> None:
        with pytest.raises(DownloadRefusedError, match="max_bytes"):
            fetch(host.serve("/a", BODY, chunked=True), max_bytes=1000)

    def test_answer_of_unknown_length_is_refused(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="Content-Length"):
            fetch(host.serve("/a", BODY, content_length=0))

    def test_encoded_answer_is_refused(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="gzip"):
            fetch(host.serve("/a", BODY, headers={"Content-Encoding": "gzip"}))
