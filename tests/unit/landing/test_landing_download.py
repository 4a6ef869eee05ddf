from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from landing_host import mp3_of_bytes

from airflow_provider_vocalsep.landing import download as module
from airflow_provider_vocalsep.landing.download import Download, StoppedError
from airflow_provider_vocalsep.landing.errors import (
    ContentChangedError,
    DownloadError,
    DownloadRefusedError,
    LinkExpiredError,
)
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.session import guarded_session

if TYPE_CHECKING:
    from landing_host import StemHost

BODY = mp3_of_bytes(700_000)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 3)


def fetch(url: str, *, step: int = 200_000, **guard: Any) -> tuple[bytes, Download]:
    checked = DownloadGuard(allow_private_hosts=True, **guard)
    got = b""
    with Download(guarded_session(checked), checked, url, pause=0.001) as download:
        while not download.finished:
            buffer = bytearray(step)
            got += buffer[: download.read_into(buffer, step)]
    return bytes(got), download


class TestAWholeDownload:
    @pytest.mark.parametrize("step", [1, 1000, 699_999, 2_000_000])
    def test_is_the_file_whatever_the_buffer(self, host: StemHost, step: int) -> None:
        body = BODY[:1000] if step == 1 else BODY
        got, download = fetch(host.serve("/a", body), step=step)
        assert got == body
        assert download.sha256 == hashlib.sha256(body).hexdigest()
        assert download.received == download.total == len(body)

    def test_may_come_in_chunks_without_a_length(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", BODY, chunked=True))[0] == BODY

    def test_may_be_of_nothing(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", b""))[0] == b""

    def test_follows_redirects(self, host: StemHost) -> None:
        host.serve("/b", BODY)
        assert fetch(host.serve("/a", location="/b"))[0] == BODY

    def test_leaves_its_connection_for_the_next(self, host: StemHost) -> None:
        url, guard = host.serve("/a", BODY), DownloadGuard(allow_private_hosts=True)
        session = guarded_session(guard)
        for _ in range(3):
            with Download(session, guard, url) as download:
                download.read_into(bytearray(len(BODY)), len(BODY))
        assert host.connections == 1


class TestABrokenDownload:
    @pytest.mark.parametrize("seed", range(5))
    def test_goes_on_where_it_broke_off(self, host: StemHost, seed: int) -> None:
        source = random.Random(seed)
        cuts = [source.randrange(0, 200_000) for _ in range(4)]
        got, download = fetch(host.serve("/a", BODY, cuts=cuts))
        assert got == BODY
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()
        assert "bytes=" in host.ranges_asked("/a")[-1]

    def test_asks_for_the_rest_of_this_very_file(self, host: StemHost) -> None:
        fetch(host.serve("/a", BODY, cuts=[100_000]))
        _, headers = host.requests[-1]
        assert headers["if-range"] == '"one"'

    @pytest.mark.parametrize(
        "how",
        [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}],
        ids=["ignores Range", "no ETag", "weak ETag"],
    )
    def test_is_read_again_from_the_start_where_the_rest_is_not_to_be_had(
        self, host: StemHost, how: dict[str, Any]
    ) -> None:
        got, download = fetch(host.serve("/a", BODY, cuts=[300_000, 500_000], **how))
        assert got == BODY
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()

    def test_breaking_again_while_skipping_is_no_matter(self, host: StemHost) -> None:
        assert fetch(host.serve("/a", BODY, cuts=[300_000, 200_000, 10], ranges=False))[0] == BODY

    def test_gives_up_when_nothing_more_comes(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="broke after 1000 bytes"):
            fetch(host.serve("/a", BODY, cuts=[1000] + [0] * 20))

    @pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
    def test_never_splices_two_files(self, host: StemHost, ranges: bool) -> None:
        other = mp3_of_bytes(700_000, seed=1)
        with pytest.raises(ContentChangedError):
            fetch(host.serve("/a", BODY, cuts=[300_000], becomes=other, ranges=ranges, etag=None))

    def test_never_splices_files_of_different_length(self, host: StemHost) -> None:
        with pytest.raises(ContentChangedError):
            fetch(host.serve("/a", BODY, cuts=[300_000], becomes=BODY + b"x"))

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 520])
    def test_is_asked_for_again_after_passing_trouble(self, host: StemHost, status: int) -> None:
        assert fetch(host.serve("/a", BODY, statuses=[status]))[0] == BODY

    def test_of_a_host_that_is_away_says_so_without_the_link(self) -> None:
        with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*no connection") as e:
            fetch("http://127.0.0.1:9/a.mp3?signature=secret")
        assert "secret" not in str(e.value)

    def test_stops_when_it_is_told_to(self, host: StemHost) -> None:
        guard, stopped = DownloadGuard(allow_private_hosts=True), threading.Event()
        url = host.serve("/a", BODY)
        with Download(guarded_session(guard), guard, url, stopped=stopped) as download:
            download.read_into(bytearray(1000), 1000)
            stopped.set()
            with pytest.raises(StoppedError):
                download.read_into(bytearray(1000), 1000)

    def test_does_not_let_a_host_dole_out_bytes_for_ever(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_CONNECTIONS", 20)
        with pytest.raises(DownloadError, match="20 of 700|21 of|bytes came within"):
            fetch(host.serve("/a", BODY, cuts=[1] * 500))

    def test_does_not_wait_for_ever_for_a_slow_host(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_SECONDS", -1.0)
        began = time.monotonic()
        with pytest.raises(DownloadError, match="bytes came within"):
            fetch(host.serve("/a", BODY))
        assert time.monotonic() - began < 5


class TestARefusedDownload:
    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_is_an_expired_link_where_the_host_says_so(self, host: StemHost, status: int) -> None:
        with pytest.raises(LinkExpiredError, match=str(status)):
            fetch(host.serve("/a", BODY, statuses=[status]))

    def test_is_an_expired_link_also_in_the_middle(self, host: StemHost) -> None:
        url = host.serve("/a", BODY, cuts=[1000])
        guard = DownloadGuard(allow_private_hosts=True)
        with Download(guarded_session(guard), guard, url, pause=0.001) as download:
            download.read_into(bytearray(1000), 1000)
            host.files["/a"].statuses = [403]
            with pytest.raises(LinkExpiredError):
                download.read_into(bytearray(1000), 1000)

    @pytest.mark.parametrize("status", [400, 405, 418, 451])
    def test_is_an_error_where_the_host_says_anything_else(self, host: StemHost, status: int) -> None:
        with pytest.raises(DownloadError, match=str(status)) as e:
            fetch(host.serve("/a", BODY, statuses=[status]))
        assert not isinstance(e.value, LinkExpiredError)
        assert len(host.requests) == 1

    def test_is_one_that_redirects_for_ever(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="redirects"):
            fetch(host.serve("/a", location="/a"))
        assert len(host.requests) == 6

    @pytest.mark.parametrize(
        "location",
        ["http://169.254.169.254/x", "https://user:pw@example.com/x", "ftp://example.com/x"],
    )
    def test_is_one_that_redirects_where_the_guard_forbids(self, host: StemHost, location: str) -> None:
        with pytest.raises(DownloadRefusedError):
            fetch(host.serve("/a", location=location))

    def test_is_one_that_is_too_large_by_its_own_word(self, host: StemHost) -> None:
        with pytest.raises(DownloadRefusedError, match="max_bytes"):
            fetch(host.serve("/a", BODY), max_bytes=1000)

    def test_is_one_that_is_too_large_without_a_word(self, host: StemHost) -> None:
        with pytest.raises(DownloadRefusedError, match="max_bytes"):
            fetch(host.serve("/a", BODY, chunked=True), max_bytes=1000)

    def test_is_one_whose_length_nobody_tells(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="Content-Length"):
            fetch(host.serve("/a", BODY, announced=0))

    def test_is_one_that_comes_encoded(self, host: StemHost) -> None:
        with pytest.raises(DownloadError, match="gzip"):
            fetch(host.serve("/a", BODY, headers={"Content-Encoding": "gzip"}))
