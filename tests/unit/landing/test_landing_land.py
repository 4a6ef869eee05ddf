from __future__ import annotations

import hashlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing import download as download_module
from airflow_provider_vocalsep.landing.land import read_manifest, verify_landed
from tests.support.landing_bench import TASK_ID, finished_task
from tests.support.stem_host import mp3, mp3_of_bytes

if TYPE_CHECKING:
    from tests.support.landing_bench import LandingBench

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)

pytestmark = pytest.mark.usefixtures("few_tries")


class TestLand:
    def test_stems_land_byte_for_byte(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL))

        assert bench.keys() == [
            f"song/separate_vocal/{name}" for name in ("instrumental.mp3", "manifest.json", "vocals.mp3")
        ]
        for stem, body in zip(manifest.stems, (VOCALS, INSTRUMENTAL), strict=True):
            assert bench.read(stem.uri) == body
            assert stem.sha256 == hashlib.sha256(body).hexdigest()
            assert stem.bytes == len(body)
            assert stem.duration_seconds == pytest.approx(20.0, abs=0.1)

    def test_manifest_names_track_task_and_stems(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL))

        assert read_manifest(bench.store, bench.location()) == manifest
        assert manifest.uri == bench.location().manifest_uri
        assert manifest.vendor_task_id == TASK_ID
        assert manifest.track["title"] == "A song"
        assert manifest.asked_by == {"dag_id": "d", "try_number": 1}
        assert [stem.audio_id for stem in manifest.stems] == ["v-1", "i-1"]

    def test_large_stem_is_sent_in_parts(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(LARGE, INSTRUMENTAL))

        vocals = manifest.stems[0]
        assert bench.read(vocals.uri) == LARGE
        assert vocals.sha256 == hashlib.sha256(LARGE).hexdigest()
        assert vocals.etag is not None
        assert vocals.etag.endswith("-3")

    @pytest.mark.parametrize("size", [8 * 2**20 - 1, 8 * 2**20, 8 * 2**20 + 1, 16 * 2**20])
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_stem_may_end_at_the_boundary_of_a_part(
        self, bench: LandingBench, size: int, chunked: bool
    ) -> None:
        body = mp3_of_bytes(size + 1000)[:size]

        manifest = bench.land(bench.serve_pair(body, INSTRUMENTAL, chunked=chunked))

        assert bench.read(manifest.stems[0].uri) == body
        assert manifest.stems[0].sha256 == hashlib.sha256(body).hexdigest()

    def test_max_parallel_limits_the_stems_that_land_at_the_same_time(
        self, bench: LandingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        links = [StemLink(f"stem{i}", bench.host.serve(f"/{i}.mp3", mp3(5.0, i))) for i in range(12)]
        running, most, lock = 0, 0, threading.Lock()
        read_into = download_module.Download.read_into

        def counted(*args: Any) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            try:
                return read_into(*args)
            finally:
                with lock:
                    running -= 1

        monkeypatch.setattr(download_module.Download, "read_into", counted)
        location = bench.location(separation_type=SeparationType.SPLIT_STEM)

        manifest = bench.land(finished_task(*links), location, max_parallel=3)

        assert len(manifest.stems) == 12
        assert most == 3

    @pytest.mark.parametrize(
        "key", ["a/b", "../../etc/passwd", "spaced out", "🎵 naïve", "_vocalsep/ledger", "..", " "]
    )
    def test_track_may_have_any_name(self, bench: LandingBench, key: str) -> None:
        location = bench.location(key if key.strip() else "~")

        manifest = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), location)

        assert bench.read(manifest.stems[0].uri) == VOCALS
        assert all(".." not in found and not found.startswith("_") for found in bench.keys())

    def test_summary_is_small(self, bench: LandingBench) -> None:
        summary = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL)).summary()

        assert summary["stems"]["vocals"]["sha256"] == hashlib.sha256(VOCALS).hexdigest()
        assert summary["bytes"] == len(VOCALS) + len(INSTRUMENTAL)
        assert len(str(summary)) < 2000

    def test_bug_stops_the_other_stems_and_is_raised(
        self, bench: LandingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("airflow_provider_vocalsep.landing.stem_lander.inspect_audio", broken)

        with pytest.raises(ZeroDivisionError):
            bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL))


class TestLandAgain:
    def test_unchanged_stems_are_neither_downloaded_nor_sent(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, LARGE)
        first = bench.land(task)
        bench.host.requests.clear()

        again = bench.land(task)

        assert again == first
        assert bench.host.requests == []

    @pytest.mark.parametrize("body", [VOCALS, LARGE], ids=["whole", "in parts"])
    def test_stems_without_a_manifest_are_recognised(self, bench: LandingBench, body: bytes) -> None:
        task = bench.serve_pair(body, INSTRUMENTAL)
        first = bench.land(task)
        bench.delete_manifest()
        bench.host.requests.clear()

        again = bench.land(task)

        assert bench.host.requests == []
        assert [s.model_dump(exclude={"checksum"}) for s in again.stems] == [
            s.model_dump(exclude={"checksum"}) for s in first.stems
        ]

    def test_only_the_missing_stem_is_downloaded(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL)
        first = bench.land(task)
        bench.delete_stem("vocals")
        bench.host.requests.clear()

        again = bench.land(task)

        assert bench.host.requested_paths == ["/v.mp3"]
        assert [stem.sha256 for stem in again.stems] == [stem.sha256 for stem in first.stems]

    @pytest.mark.parametrize("with_manifest", [True, False])
    def test_changed_stem_is_replaced(self, bench: LandingBench, with_manifest: bool) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL)
        first = bench.land(task)
        bench.overwrite("vocals", INSTRUMENTAL)
        if not with_manifest:
            bench.delete_manifest()

        bench.land(task)

        assert bench.read(first.stems[0].uri) == VOCALS

    def test_another_vendor_task_replaces_all_stems(self, bench: LandingBench) -> None:
        bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL))
        task = bench.serve_pair(INSTRUMENTAL, VOCALS)

        again = bench.land(SeparationTask("0" * 32, task.status, task.stems))

        assert bench.read(again.stems[0].uri) == INSTRUMENTAL
        assert again.vendor_task_id == "0" * 32

    def test_replace_sends_unchanged_stems(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL)
        bench.land(task)
        bench.host.requests.clear()

        bench.land(task, replace=True)

        assert len(bench.host.requests) == 2

    def test_malformed_manifest_is_rewritten(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL)
        first = bench.land(task)
        bench.s3.put_object(Bucket="stems", Key=bench.location().manifest_key, Body=b'{"half":')
        assert read_manifest(bench.store, bench.location()) is None

        bench.land(task)

        again = read_manifest(bench.store, bench.location())
        assert again is not None
        assert again.stems == first.stems


class TestVerifyLanded:
    def test_changed_and_missing_stems_are_named(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, LARGE))
        assert verify_landed(bench.store, manifest) == []

        bench.overwrite("vocals", VOCALS[:-1] + b"x")
        bench.delete_stem("instrumental")

        assert verify_landed(bench.store, manifest) == ["vocals", "instrumental"]


class TestInterruptedLanding:
    def test_timeout_of_the_airflow_task_stops_the_threads_and_leaves_no_unfinished_upload(
        self, bench: LandingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Airflow raises in a signal handler, in the main thread."""

        class AirflowTimeout(BaseException):
            pass

        def raise_timeout(*_: Any) -> None:
            raise AirflowTimeout

        read_some = download_module.Download._read_some

        def slow(*args: Any) -> bytes:
            time.sleep(0.01)
            return read_some(*args)

        monkeypatch.setattr(download_module.Download, "_read_some", slow)
        handler = signal.signal(signal.SIGALRM, raise_timeout)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.monotonic()

        try:
            with pytest.raises(AirflowTimeout):
                bench.land(bench.serve_pair(LARGE, LARGE))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)

        assert time.monotonic() - began < 3
        assert not [t for t in threading.enumerate() if t.name.startswith(("stems", "parts"))]
        assert bench.keys() == []
        assert bench.unfinished_uploads() == []
