from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from landing_host import mp3, mp3_of_bytes
from landing_world import TASK_ID, task_of
from moto.core import set_initial_no_auth_action_count

from airflow_provider_vocalsep.api.errors import VendorUnreachableError
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.landing import download as download_module
from airflow_provider_vocalsep.landing.errors import DownloadRefusedError, LandingError, LandingRefusedError
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import check_destination, read_manifest, verify_landed
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from landing_world import World
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.landing.manifest import Manifest

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "TRIES", 2)


class TestALanding:
    def test_brings_every_byte_to_its_place(self, world: World) -> None:
        manifest = world.land(world.pair(VOCALS, INSTRUMENTAL))
        assert world.keys() == [
            f"song/separate_vocal/{name}" for name in ("instrumental.mp3", "manifest.json", "vocals.mp3")
        ]
        for stem, body in zip(manifest.stems, (VOCALS, INSTRUMENTAL), strict=True):
            assert world.read(stem.uri) == body
            assert stem.sha256 == hashlib.sha256(body).hexdigest()
            assert stem.bytes == len(body)
            assert stem.duration_seconds == pytest.approx(20.0, abs=0.1)

    def test_leaves_a_manifest_that_says_it_all(self, world: World) -> None:
        manifest = world.land(world.pair(VOCALS, INSTRUMENTAL))
        assert read_manifest(world.s3, world.place()) == manifest
        assert manifest.uri == world.place().manifest_uri
        assert manifest.vendor_task_id == TASK_ID
        assert manifest.track["title"] == "A song"
        assert manifest.asked_by == {"dag_id": "d", "try_number": 1}
        assert [stem.audio_id for stem in manifest.stems] == ["v-1", "i-1"]

    def test_sends_a_large_stem_in_parts(self, world: World) -> None:
        manifest = world.land(world.pair(LARGE, INSTRUMENTAL))
        vocals = manifest.stems[0]
        assert world.read(vocals.uri) == LARGE
        assert vocals.sha256 == hashlib.sha256(LARGE).hexdigest()
        assert vocals.etag is not None
        assert vocals.etag.endswith("-3")

    @pytest.mark.parametrize("size", [8 * 2**20 - 1, 8 * 2**20, 8 * 2**20 + 1, 16 * 2**20])
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_is_right_at_the_seams_of_parts(self, world: World, size: int, chunked: bool) -> None:
        body = mp3_of_bytes(size + 1000)[:size]
        manifest = world.land(world.pair(body, INSTRUMENTAL, chunked=chunked))
        assert world.read(manifest.stems[0].uri) == body
        assert manifest.stems[0].sha256 == hashlib.sha256(body).hexdigest()

    def test_moves_no_more_stems_at_a_time_than_it_may(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        links = [StemLink(f"stem{i}", world.host.serve(f"/{i}.mp3", mp3(5.0, i))) for i in range(12)]
        at_once, most, lock = 0, 0, threading.Lock()
        real = download_module.Download.read_into

        def counted(*args: Any) -> int:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.01)
            try:
                return real(*args)
            finally:
                with lock:
                    at_once -= 1

        monkeypatch.setattr(download_module.Download, "read_into", counted)
        place = world.place(separation_type=SeparationType.SPLIT_STEM)
        assert len(world.land(task_of(*links), place, max_parallel=3).stems) == 12
        assert most == 3

    @pytest.mark.parametrize(
        "key", ["a/b", "../../etc/passwd", "spaced out", "🎵 naïve", "_vocalsep/ledger", "..", " "]
    )
    def test_takes_any_name_of_a_track(self, world: World, key: str) -> None:
        place = world.place(key)
        if not key.strip():
            place = Location.parse(world.destination).stems("~", SeparationType.SEPARATE_VOCAL)
        manifest = world.land(world.pair(VOCALS, INSTRUMENTAL), place)
        assert world.read(manifest.stems[0].uri) == VOCALS
        assert all(".." not in found and not found.startswith("_") for found in world.keys())

    def test_tells_an_xcom_little(self, world: World) -> None:
        summary = world.land(world.pair(VOCALS, INSTRUMENTAL)).summary()
        assert summary["stems"]["vocals"]["sha256"] == hashlib.sha256(VOCALS).hexdigest()
        assert summary["bytes"] == len(VOCALS) + len(INSTRUMENTAL)
        assert len(str(summary)) < 2000

    def test_passes_upload_args_to_every_object(self, world: World) -> None:
        manifest = world.land(
            world.pair(LARGE, INSTRUMENTAL),
            upload_args={
                "ServerSideEncryption": "AES256",
                "StorageClass": "STANDARD_IA",
                "Tagging": "team=music",
                "Metadata": {"owner": "me"},
            },
        )
        for uri in [*(stem.uri for stem in manifest.stems), manifest.uri]:
            bucket, key = uri.removeprefix("s3://").split("/", 1)
            found = world.s3.head_object(Bucket=bucket, Key=key)
            assert found["ServerSideEncryption"] == "AES256"
            assert found["Metadata"]["owner"] == "me"
            assert world.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == [
                {"Key": "team", "Value": "music"}
            ]
        assert "StorageClass" not in world.s3.head_object(Bucket="stems", Key=world.place().manifest_key)

    @pytest.mark.parametrize(
        "args, named",
        [
            ({"StorageKlass": "GLACIER"}, "StorageKlass"),
            ({"ContentType": "x"}, "ContentType"),
            ({"SSECustomerKey": "x"}, "SSECustomerKey"),
            ({"Metadata": {"a": 1}}, "Metadata"),
            ({"Metadata": {"sha256": "0"}}, "sha256"),
        ],
    )
    def test_refuses_upload_args_that_make_no_sense_at_once(
        self, world: World, args: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(DestinationError, match=named):
            world.land(world.pair(VOCALS, INSTRUMENTAL), upload_args=args)
        assert world.host.requests == []


class TestLandingAgain:
    def test_sends_and_downloads_nothing(self, world: World) -> None:
        task = world.pair(VOCALS, LARGE)
        first = world.land(task)
        world.host.requests.clear()
        assert world.land(task) == first
        assert world.host.requests == []

    @pytest.mark.parametrize("body", [VOCALS, LARGE], ids=["whole", "in parts"])
    def test_after_a_death_before_the_manifest_downloads_nothing(self, world: World, body: bytes) -> None:
        task = world.pair(body, INSTRUMENTAL)
        first = world.land(task)
        world.s3.delete_object(Bucket="stems", Key=world.place().manifest_key)
        world.host.requests.clear()
        again = world.land(task)
        assert world.host.requests == []
        assert [s.model_dump(exclude={"checksum"}) for s in again.stems] == [
            s.model_dump(exclude={"checksum"}) for s in first.stems
        ]

    def test_sends_only_what_is_missing(self, world: World) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL)
        first = world.land(task)
        world.s3.delete_object(Bucket="stems", Key=world.place().stem_key("vocals", "mp3"))
        world.host.requests.clear()
        again = world.land(task)
        assert [path for path, _ in world.host.requests] == ["/v.mp3"]
        assert [stem.sha256 for stem in again.stems] == [stem.sha256 for stem in first.stems]

    @pytest.mark.parametrize("with_manifest", [True, False])
    def test_sends_what_somebody_changed(self, world: World, with_manifest: bool) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL)
        first = world.land(task)
        key = world.place().stem_key("vocals", "mp3")
        world.s3.put_object(Bucket="stems", Key=key, Body=INSTRUMENTAL)
        if not with_manifest:
            world.s3.delete_object(Bucket="stems", Key=world.place().manifest_key)
        world.land(task)
        assert world.read(first.stems[0].uri) == VOCALS

    def test_of_another_vendor_task_replaces_everything(self, world: World) -> None:
        world.land(world.pair(VOCALS, INSTRUMENTAL))
        task = world.pair(INSTRUMENTAL, VOCALS)
        again = world.land(SeparationTask("0" * 32, task.status, task.stems))
        assert world.read(again.stems[0].uri) == INSTRUMENTAL
        assert again.vendor_task_id == "0" * 32

    def test_can_be_forced(self, world: World) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL)
        world.land(task)
        world.host.requests.clear()
        world.land(task, replace=True)
        assert len(world.host.requests) == 2

    def test_mends_a_manifest_that_cannot_be_read(self, world: World) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL)
        first = world.land(task)
        world.s3.put_object(Bucket="stems", Key=world.place().manifest_key, Body=b'{"half":')
        assert read_manifest(world.s3, world.place()) is None
        world.land(task)
        again = read_manifest(world.s3, world.place())
        assert again is not None
        assert again.stems == first.stems

    def test_is_verified_by_looking(self, world: World) -> None:
        manifest = world.land(world.pair(VOCALS, LARGE))
        assert verify_landed(world.s3, manifest) == []
        world.s3.put_object(
            Bucket="stems", Key=world.place().stem_key("vocals", "mp3"), Body=VOCALS[:-1] + b"x"
        )
        world.s3.delete_object(Bucket="stems", Key=world.place().stem_key("instrumental", "mp3"))
        assert verify_landed(world.s3, manifest) == ["vocals", "instrumental"]


class TestAStemThatFails:
    @pytest.mark.parametrize(
        "bad, how, why",
        [
            (b"<html>gone</html>", {}, "an HTML page"),
            (b"<html>" + b" " * 9_000_000, {}, "an HTML page"),
            (VOCALS, {"announced": len(VOCALS) + 5}, "broke off after"),
            (b'{"error": "x"}', {}, "JSON"),
            (VOCALS, {"statuses": [500] * 20}, "answers 500"),
            (VOCALS, {"location": "http://169.254.169.254/"}, "not a public address"),
            (b"", {}, "promises it.*empty"),
            (b"\0" * 64, {}, "promises it.*64 bytes"),
            (LARGE, {"announced": len(LARGE) + 5}, "broke off after"),
        ],
        ids=["html", "large html", "short", "json", "500", "redirect", "empty", "tiny", "large short"],
    )
    def test_is_named_with_its_reason_and_the_others_stay(
        self, world: World, bad: bytes, how: dict[str, Any], why: str
    ) -> None:
        task = world.pair(bad, INSTRUMENTAL, **how)
        with pytest.raises(LandingError, match=why) as e:
            world.land(task)
        assert list(e.value.failures) == ["vocals"]
        assert e.value.landed == ("instrumental",)
        for part in ("'song'", TASK_ID, "vocals", "Landed and kept: instrumental", "nothing is paid again"):
            assert part in str(e.value)
        assert world.keys() == ["song/separate_vocal/instrumental.mp3"]
        assert world.unfinished_uploads() == []

    def test_is_all_that_a_retry_sends(self, world: World) -> None:
        task = world.pair(b"<html></html>", INSTRUMENTAL)
        with pytest.raises(LandingError):
            world.land(task)
        world.host.serve("/v.mp3", VOCALS)
        world.host.requests.clear()
        assert len(world.land(task).stems) == 2
        assert [path for path, _ in world.host.requests] == ["/v.mp3"]

    def test_may_play_as_long_as_the_record_says(self, world: World) -> None:
        task = task_of(
            StemLink("vocals", world.host.serve("/v.mp3", VOCALS), duration=20.6),
            StemLink("instrumental", world.host.serve("/i.mp3", INSTRUMENTAL), duration=245.6),
        )
        with pytest.raises(LandingError, match=r"plays 20\.0 s where the vendor's record says 245\.6 s") as e:
            world.land(task)
        assert list(e.value.failures) == ["instrumental"]

    def test_may_play_as_long_as_the_track(self, world: World) -> None:
        with pytest.raises(LandingError, match="track's own duration says 300"):
            world.land(world.pair(VOCALS, INSTRUMENTAL), expected_duration=300.0)
        assert len(world.land(world.pair(VOCALS, INSTRUMENTAL), expected_duration=21.0).stems) == 2

    def test_for_good_is_told_from_one_that_may_pass(self, world: World) -> None:
        world.guard = DownloadGuard()
        with pytest.raises(LandingRefusedError, match="only https") as e:
            world.land(world.pair(VOCALS, INSTRUMENTAL))
        assert isinstance(e.value, DownloadRefusedError)
        assert set(e.value.failures) == {"vocals", "instrumental"}

    def test_does_not_land_when_it_is_linked_twice(self, world: World) -> None:
        task = task_of(
            StemLink("vocals", world.host.serve("/v.mp3", VOCALS)),
            StemLink("vocals", world.host.serve("/w.mp3", INSTRUMENTAL)),
            StemLink("instrumental", world.host.serve("/i.mp3", INSTRUMENTAL)),
        )
        with pytest.raises(LandingError, match="links it 2 times"):
            world.land(task)

    def test_becomes_another_file_once_without_harm(self, world: World) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL, cuts=[100_000], becomes=mp3(20.0, 9))
        manifest = world.land(task)
        assert world.read(manifest.stems[0].uri) == mp3(20.0, 9)

    def test_because_of_a_bug_stops_the_others_and_is_not_hidden(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("airflow_provider_vocalsep.landing.stem_lander.inspect_audio", broken)
        with pytest.raises(ZeroDivisionError):
            world.land(world.pair(VOCALS, INSTRUMENTAL))


class TestAStemThatTheTrackDoesNotHave:
    @pytest.mark.parametrize("body", [b"", b"\0" * 64, b"\xff\xfb\x90\x64" + bytes(700)])
    def test_is_recorded_as_absent(self, world: World, body: bytes) -> None:
        task = task_of(
            StemLink("vocals", world.host.serve("/v.mp3", VOCALS)),
            StemLink("brass", world.host.serve("/b.mp3", body)),
            StemLink("drums", None),
        )
        manifest = world.land(task, world.place(separation_type=SeparationType.SPLIT_STEM))
        assert [stem.name for stem in manifest.stems] == ["vocals"]
        reasons = {stem.name: stem.reason for stem in manifest.absent}
        assert "empty" in reasons["brass"] or "only" in reasons["brass"]
        assert "no link" in reasons["drums"]
        assert "does not name it" in reasons["fx"]
        assert {stem.value for stem in EXPECTED_STEMS[SeparationType.SPLIT_STEM]} == {"vocals", *reasons}

    def test_is_a_failure_where_it_is_promised(self, world: World) -> None:
        task = task_of(StemLink("vocals", world.host.serve("/v.mp3", VOCALS)), StemLink("instrumental", None))
        with pytest.raises(LandingError, match="promises it, but the vendor's record has no link") as e:
            world.land(task)
        assert list(e.value.failures) == ["instrumental"]

    def test_is_asked_for_once_more_before(self, world: World) -> None:
        whole = world.pair(VOCALS, INSTRUMENTAL)
        half = task_of(whole.stems[0])
        assert len(world.land(half, refresh=lambda: whole).stems) == 2

    def test_that_is_promised_and_cannot_be_asked_for_keeps_the_others(self, world: World) -> None:
        def refresh() -> SeparationTask:
            raise VendorUnreachableError("the vendor is away")

        half = task_of(world.pair(VOCALS, INSTRUMENTAL).stems[0])
        with pytest.raises(LandingError, match="promises it, but the vendor's record does not name it") as e:
            world.land(half, refresh=refresh)
        assert e.value.landed == ("vocals",)

    def test_is_not_all_that_a_finished_task_may_offer(self, world: World) -> None:
        place = world.place(separation_type=SeparationType.SPLIT_STEM)
        with pytest.raises(LandingError, match="finished and offers none"):
            world.land(task_of(StemLink("vocals", None)), place)
        assert world.keys() == []


class TestAnExpiredLink:
    def test_is_asked_for_anew(self, world: World) -> None:
        old = task_of(
            StemLink("vocals", world.host.url("/old1")), StemLink("instrumental", world.host.url("/old2"))
        )
        asked = []

        def refresh() -> SeparationTask:
            asked.append(threading.current_thread())
            return world.pair(VOCALS, INSTRUMENTAL)

        manifest = world.land(old, refresh=refresh)
        assert world.read(manifest.stems[0].uri) == VOCALS
        assert asked == [threading.current_thread()]

    def test_in_the_middle_of_a_large_stem_leaves_nothing_half(self, world: World) -> None:
        task = world.pair(LARGE, INSTRUMENTAL, cuts=[10_000_000], statuses=[None, 403, 403])

        def refresh() -> SeparationTask:
            return task_of(StemLink("vocals", world.host.serve("/new.mp3", LARGE)), task.stems[1])

        manifest = world.land(task, refresh=refresh)
        assert world.read(manifest.stems[0].uri) == LARGE
        assert [path for path, _ in world.host.requests].count("/v.mp3") == 2
        assert world.unfinished_uploads() == []

    def test_that_stays_expired_is_a_failure(self, world: World) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL, statuses=[404] * 10)
        with pytest.raises(LandingError, match="has expired: it answers 404.*about 14 days"):
            world.land(task)
        assert len(world.host.ranges_asked("/v.mp3")) == 3

    def test_that_cannot_be_asked_for_keeps_the_others(self, world: World) -> None:
        def refresh() -> SeparationTask:
            raise VendorUnreachableError("the vendor is away")

        task = world.pair(VOCALS, INSTRUMENTAL, statuses=[403] * 10)
        with pytest.raises(LandingError, match="Asking for a new one failed: the vendor is away") as e:
            world.land(task, refresh=refresh)
        assert e.value.landed == ("instrumental",)


class TestADestination:
    def test_is_checked_without_leaving_anything(self, world: World) -> None:
        check_destination(world.s3, world.place(), upload_args={"ServerSideEncryption": "AES256"})
        assert world.keys() == []
        assert world.unfinished_uploads() == []

    def test_without_a_bucket_is_named_with_the_remedy(self, world: World) -> None:
        place = Location.parse("s3://nobodys-bucket/out").stems("song", SeparationType.SEPARATE_VOCAL)
        with pytest.raises(DestinationError, match="no bucket 'nobodys-bucket'. Create it"):
            check_destination(world.s3, place)
        with pytest.raises(DestinationError, match="nobodys-bucket"):
            world.land(world.pair(VOCALS, INSTRUMENTAL), place)

    def test_refuses_bad_upload_args_before_anything(self, world: World) -> None:
        with pytest.raises(DestinationError, match="Storage"):
            check_destination(world.s3, world.place(), upload_args={"Storage": "x"})


class TestALandingThatIsCutShort:
    def test_by_a_time_out_of_the_airflow_task_stops_its_threads_and_leaves_nothing_half(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Airflow raises in the main thread, out of a signal handler."""
        real = download_module.Download._read_some

        def slow(*args: Any) -> bytes:
            time.sleep(0.01)
            return real(*args)

        def give_up(*_: Any) -> None:
            raise BaseTimeout

        class BaseTimeout(BaseException):
            pass

        monkeypatch.setattr(download_module.Download, "_read_some", slow)
        before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.monotonic()
        try:
            with pytest.raises(BaseTimeout):
                world.land(world.pair(LARGE, LARGE))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - began < 3
        assert not [t for t in threading.enumerate() if t.name.startswith(("stems", "parts"))]
        assert world.keys() == []
        assert world.unfinished_uploads() == []


class TestWhoMayOnlyWrite:
    """Least privilege: s3:PutObject below ``out/`` and nothing else."""

    @pytest.fixture
    def writer(self, world: World) -> S3Client:
        iam = boto3.client("iam", region_name="us-east-1")
        name = f"writer-{uuid.uuid4().hex}"
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::stems/out/*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        iam.put_user_policy(UserName=name, PolicyName="write", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return boto3.client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )

    def test_can_land(self, world: World, writer: S3Client) -> None:
        task, admin = world.pair(VOCALS, LARGE), world.s3
        world.s3 = writer

        @set_initial_no_auth_action_count(0)
        def land() -> Manifest:
            check_destination(writer, world.place())
            return world.land(task)

        manifest = land()
        assert verify_landed(admin, manifest) == []

    def test_is_told_at_once_where_not(self, world: World, writer: S3Client) -> None:
        world.destination = "s3://stems/elsewhere"

        @set_initial_no_auth_action_count(0)
        def check() -> None:
            check_destination(writer, world.place())

        with pytest.raises(DestinationError, match=r"bucket 'stems' refuses it .*s3:PutObject"):
            check()

    def test_fails_with_the_bucket_s_name_and_the_remedy(self, world: World, writer: S3Client) -> None:
        task = world.pair(VOCALS, INSTRUMENTAL)
        world.s3, world.destination = writer, "s3://stems/elsewhere"

        @set_initial_no_auth_action_count(0)
        def land() -> None:
            world.land(task)

        with pytest.raises(
            DestinationError, match=r"(?s)Track 'song'.*bucket 'stems' refuses it .*s3:PutObject"
        ):
            land()
