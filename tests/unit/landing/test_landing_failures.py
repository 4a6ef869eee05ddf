"""Landings of which some stems fail, are absent, or have expired links."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.api.errors import VendorUnreachableError
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.landing.errors import DownloadRefusedError, LandingError, LandingRefusedError
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from tests.support.landing_bench import TASK_ID, finished_task
from tests.support.stem_host import mp3, mp3_of_bytes

if TYPE_CHECKING:
    from tests.support.landing_bench import LandingBench

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)

pytestmark = pytest.mark.usefixtures("few_tries")


def vendor_unreachable() -> SeparationTask:
    raise VendorUnreachableError("the vendor is down")


class TestFailedStem:
    @pytest.mark.parametrize(
        "body, faults, reason",
        [
            (b"<html>gone</html>", {}, "an HTML page"),
            (b"<html>" + b" " * 9_000_000, {}, "an HTML page"),
            (VOCALS, {"content_length": len(VOCALS) + 5}, "broke off after"),
            (b'{"error": "x"}', {}, "JSON"),
            (VOCALS, {"statuses": [500] * 20}, "answers 500"),
            (VOCALS, {"redirect_to": "http://169.254.169.254/"}, "not a public address"),
            (b"", {}, "promises it.*empty"),
            (b"\0" * 64, {}, "promises it.*64 bytes"),
            (LARGE, {"content_length": len(LARGE) + 5}, "broke off after"),
        ],
        ids=["html", "large html", "short", "json", "500", "redirect", "empty", "tiny", "large short"],
    )
    def test_error_names_stem_and_reason_and_the_other_stem_stays(
        self, bench: LandingBench, body: bytes, faults: dict[str, Any], reason: str
    ) -> None:
        task = bench.serve_pair(body, INSTRUMENTAL, **faults)

        with pytest.raises(LandingError, match=reason) as e:
            bench.land(task)

        assert list(e.value.failures) == ["vocals"]
        assert e.value.landed == ("instrumental",)
        for part in ("'song'", TASK_ID, "vocals", "Landed and kept: instrumental", "nothing is paid again"):
            assert part in str(e.value)
        assert bench.keys() == ["song/separate_vocal/instrumental.mp3"]
        assert bench.unfinished_uploads() == []

    def test_retry_downloads_only_the_failed_stem(self, bench: LandingBench) -> None:
        task = bench.serve_pair(b"<html></html>", INSTRUMENTAL)
        with pytest.raises(LandingError):
            bench.land(task)
        bench.host.serve("/v.mp3", VOCALS)
        bench.host.requests.clear()

        manifest = bench.land(task)

        assert len(manifest.stems) == 2
        assert bench.host.requested_paths == ["/v.mp3"]

    def test_duration_other_than_in_the_record_is_a_failure(self, bench: LandingBench) -> None:
        task = finished_task(
            StemLink("vocals", bench.host.serve("/v.mp3", VOCALS), duration=20.6),
            StemLink("instrumental", bench.host.serve("/i.mp3", INSTRUMENTAL), duration=245.6),
        )

        with pytest.raises(LandingError, match=r"plays 20\.0 s where the vendor's record says 245\.6 s") as e:
            bench.land(task)

        assert list(e.value.failures) == ["instrumental"]

    def test_duration_other_than_of_the_track_is_a_failure(self, bench: LandingBench) -> None:
        with pytest.raises(LandingError, match="track's own duration says 300"):
            bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), expected_duration=300.0)

    def test_duration_may_differ_a_little_from_that_of_the_track(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), expected_duration=21.0)

        assert len(manifest.stems) == 2

    def test_refused_links_are_not_retryable(self, bench: LandingBench) -> None:
        bench.guard = DownloadGuard()

        with pytest.raises(LandingRefusedError, match="only https") as e:
            bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL))

        assert isinstance(e.value, DownloadRefusedError)
        assert not e.value.retryable
        assert set(e.value.failures) == {"vocals", "instrumental"}

    def test_stem_with_two_links_is_a_failure(self, bench: LandingBench) -> None:
        task = finished_task(
            StemLink("vocals", bench.host.serve("/v.mp3", VOCALS)),
            StemLink("vocals", bench.host.serve("/w.mp3", INSTRUMENTAL)),
            StemLink("instrumental", bench.host.serve("/i.mp3", INSTRUMENTAL)),
        )

        with pytest.raises(LandingError, match="links it 2 times"):
            bench.land(task)

    def test_file_that_changes_during_its_download_is_downloaded_again(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL, cuts=[100_000], next_body=mp3(20.0, 9))

        manifest = bench.land(task)

        assert bench.read(manifest.stems[0].uri) == mp3(20.0, 9)


class TestAbsentStem:
    @pytest.mark.parametrize("body", [b"", b"\0" * 64, b"\xff\xfb\x90\x64" + bytes(700)])
    def test_manifest_lists_absent_stems_with_the_reason(self, bench: LandingBench, body: bytes) -> None:
        task = finished_task(
            StemLink("vocals", bench.host.serve("/v.mp3", VOCALS)),
            StemLink("brass", bench.host.serve("/b.mp3", body)),
            StemLink("drums", None),
        )

        manifest = bench.land(task, bench.location(separation_type=SeparationType.SPLIT_STEM))

        assert [stem.name for stem in manifest.stems] == ["vocals"]
        reasons = {stem.name: stem.reason for stem in manifest.absent}
        assert "empty" in reasons["brass"] or "only" in reasons["brass"]
        assert "no link" in reasons["drums"]
        assert "does not name it" in reasons["fx"]
        assert {stem.value for stem in EXPECTED_STEMS[SeparationType.SPLIT_STEM]} == {"vocals", *reasons}

    def test_absent_stem_that_the_separation_type_promises_is_a_failure(self, bench: LandingBench) -> None:
        task = finished_task(
            StemLink("vocals", bench.host.serve("/v.mp3", VOCALS)), StemLink("instrumental", None)
        )

        with pytest.raises(LandingError, match="promises it, but the vendor's record has no link") as e:
            bench.land(task)

        assert list(e.value.failures) == ["instrumental"]

    def test_incomplete_record_is_read_again(self, bench: LandingBench) -> None:
        complete = bench.serve_pair(VOCALS, INSTRUMENTAL)
        incomplete = finished_task(complete.stems[0])

        manifest = bench.land(incomplete, refresh=lambda: complete)

        assert len(manifest.stems) == 2

    def test_other_stems_land_if_an_incomplete_record_cannot_be_read_again(self, bench: LandingBench) -> None:
        incomplete = finished_task(bench.serve_pair(VOCALS, INSTRUMENTAL).stems[0])

        with pytest.raises(LandingError, match="promises it, but the vendor's record does not name it") as e:
            bench.land(incomplete, refresh=vendor_unreachable)

        assert e.value.landed == ("vocals",)

    def test_finished_task_without_any_stem_is_a_failure(self, bench: LandingBench) -> None:
        location = bench.location(separation_type=SeparationType.SPLIT_STEM)

        with pytest.raises(LandingError, match="finished and offers none"):
            bench.land(finished_task(StemLink("vocals", None)), location)

        assert bench.keys() == []


class TestExpiredLink:
    def test_new_link_is_requested_in_the_calling_thread(self, bench: LandingBench) -> None:
        old = finished_task(
            StemLink("vocals", bench.host.url("/old1")), StemLink("instrumental", bench.host.url("/old2"))
        )
        threads = []

        def refresh() -> SeparationTask:
            threads.append(threading.current_thread())
            return bench.serve_pair(VOCALS, INSTRUMENTAL)

        manifest = bench.land(old, refresh=refresh)

        assert bench.read(manifest.stems[0].uri) == VOCALS
        assert threads == [threading.current_thread()]

    def test_link_that_expires_during_a_large_stem_leaves_no_unfinished_upload(
        self, bench: LandingBench
    ) -> None:
        task = bench.serve_pair(LARGE, INSTRUMENTAL, cuts=[10_000_000], statuses=[None, 403, 403])

        def refresh() -> SeparationTask:
            return finished_task(StemLink("vocals", bench.host.serve("/new.mp3", LARGE)), task.stems[1])

        manifest = bench.land(task, refresh=refresh)

        assert bench.read(manifest.stems[0].uri) == LARGE
        assert bench.host.requested_paths.count("/v.mp3") == 2
        assert bench.unfinished_uploads() == []

    def test_link_that_stays_expired_is_a_failure_after_three_requests(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL, statuses=[404] * 10)

        with pytest.raises(LandingError, match="has expired: it answers 404.*about 14 days"):
            bench.land(task)

        assert bench.host.requested_paths.count("/v.mp3") == 3

    def test_other_stem_lands_if_no_new_link_can_be_requested(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL, statuses=[403] * 10)

        with pytest.raises(LandingError, match="Asking for a new one failed: the vendor is down") as e:
            bench.land(task, refresh=vendor_unreachable)

        assert e.value.landed == ("instrumental",)
