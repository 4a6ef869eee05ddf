"""Landing into a real S3 server, from a host that breaks off, lies and forgets."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.landing.land import check_destination, read_manifest, verify_landed
from airflow_provider_vocalsep.storage.errors import DestinationError, StorageError
from airflow_provider_vocalsep.storage.location import Location

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "landing"))

from landing_host import StemHost, mp3, mp3_of_bytes, running_stem_host  # noqa: E402
from landing_world import World  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)

#: What one file of 300 MB may take above an idle worker.
MAX_MEBIBYTES = 100


@pytest.fixture(scope="module")
def _host() -> Iterator[StemHost]:
    with running_stem_host() as host:
        yield host


@pytest.fixture
def world(s3: S3Client, _host: StemHost, destination: str) -> World:
    _host.files.clear()
    _host.requests.clear()
    return World(s3, _host, destination)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class TestWhatLands:
    def test_is_what_the_vendor_has_and_the_store_s_own_checksum_says_so(self, world: World) -> None:
        manifest = world.land(world.pair(VOCALS, LARGE))
        for stem, body in zip(manifest.stems, (VOCALS, LARGE), strict=True):
            assert digest(world.read(stem.uri)) == stem.sha256 == digest(body)
        whole, parts = manifest.stems
        assert whole.checksum is not None
        assert len(whole.checksum) == 44
        assert parts.checksum is not None
        assert parts.checksum.endswith("-3")
        assert verify_landed(world.s3, manifest) == []
        assert read_manifest(world.s3, world.place()) == manifest

    @pytest.mark.parametrize("seed", range(3))
    def test_is_whole_though_the_connection_breaks_anywhere(self, world: World, seed: int) -> None:
        source = random.Random(seed)
        cuts = [source.randrange(1, 6_000_000) for _ in range(4)]
        manifest = world.land(world.pair(LARGE, INSTRUMENTAL, cuts=cuts))
        assert manifest.stems[0].sha256 == digest(LARGE) == digest(world.read(manifest.stems[0].uri))
        assert len(world.host.ranges_asked("/v.mp3")) == 5

    @pytest.mark.parametrize("key", ["🎵 Señorita", "../up", "a//b", "100%+?&=#", "x" * 300, "~"])
    def test_may_be_called_anything(self, world: World, key: str) -> None:
        manifest = world.land(world.pair(VOCALS, INSTRUMENTAL), world.place(key))
        assert world.read(manifest.stems[0].uri) == VOCALS
        assert verify_landed(world.s3, manifest) == []

    def test_carries_what_upload_args_say(self, world: World) -> None:
        args = {"Metadata": {"owner": "me"}, "Tagging": "team=music", "CacheControl": "no-store"}
        manifest = world.land(world.pair(VOCALS, LARGE), upload_args=args)
        for stem in manifest.stems:
            bucket, key = stem.uri.removeprefix("s3://").split("/", 1)
            found = world.s3.head_object(Bucket=bucket, Key=key)
            assert found["Metadata"]["owner"] == "me"
            assert found["CacheControl"] == "no-store"
            assert found["ContentType"] == "audio/mpeg"
            tags = world.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            assert tags == [{"Key": "team", "Value": "music"}]


class TestLandingAgain:
    @pytest.mark.parametrize("with_manifest", [True, False], ids=["complete", "died before the manifest"])
    def test_downloads_nothing(self, world: World, with_manifest: bool) -> None:
        task, place = world.pair(VOCALS, LARGE), world.place()
        first = world.land(task)
        if not with_manifest:
            world.s3.delete_object(Bucket=place.bucket, Key=place.manifest_key)
        world.host.requests.clear()
        again = world.land(task)
        assert world.host.requests == []
        assert again.stems == first.stems

    def test_mends_what_somebody_changed(self, world: World) -> None:
        task, place = world.pair(VOCALS, LARGE), world.place()
        manifest = world.land(task)
        swapped = bytes(LARGE[:-1] + b"?")
        world.s3.put_object(Bucket=place.bucket, Key=place.stem_key("instrumental", "mp3"), Body=swapped)
        world.s3.delete_object(Bucket=place.bucket, Key=place.stem_key("vocals", "mp3"))
        assert verify_landed(world.s3, manifest) == ["vocals", "instrumental"]
        assert verify_landed(world.s3, world.land(task)) == []

    def test_twice_at_the_same_time_is_no_matter(self, world: World) -> None:
        from concurrent.futures import ThreadPoolExecutor

        task = world.pair(VOCALS, LARGE)
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(lambda _: world.land(task), range(2))
        assert [s.sha256 for s in one.stems] == [s.sha256 for s in other.stems]
        manifest = read_manifest(world.s3, world.place())
        assert manifest is not None
        assert verify_landed(world.s3, manifest) == []


class TestAFailure:
    def corrupting(self, seaweed: SeaweedServer, operation: str) -> S3Client:
        """A client whose line to the bucket turns a bit."""
        client = seaweed.client(retries={"max_attempts": 1})

        def corrupt(request: Any, **_: Any) -> None:
            if hasattr(request.body, "read"):
                body = bytearray(request.body.read(-1))
                body[len(body) // 2] ^= 1
                request.body = bytes(body)

        client.meta.events.register(f"before-send.s3.{operation}", corrupt)
        return client

    @pytest.mark.parametrize("operation, body", [("PutObject", VOCALS), ("UploadPart", LARGE)])
    def test_on_the_way_to_the_bucket_is_noticed_by_the_store(
        self, world: World, seaweed: SeaweedServer, operation: str, body: bytes
    ) -> None:
        task = world.pair(body, INSTRUMENTAL if operation == "UploadPart" else VOCALS)
        world.s3 = self.corrupting(seaweed, operation)
        with pytest.raises((LandingError, StorageError, DestinationError)) as e:
            world.land(task)
        assert "vocals" in str(e.value)
        assert "song/separate_vocal/vocals.mp3" not in world.keys()
        assert "song/separate_vocal/manifest.json" not in world.keys()
        assert world.keys("song/separate_vocal/vocals") == []
        assert not [key for key in world.unfinished_uploads() if key.startswith(world.place().prefix)]

    def test_in_the_middle_of_a_large_stem_leaves_nothing_half(self, world: World) -> None:
        task = world.pair(LARGE, INSTRUMENTAL, cuts=[12_000_000], statuses=[None, 451])
        with pytest.raises(LandingError, match="answers 451") as e:
            world.land(task)
        assert e.value.landed == ("instrumental",)
        assert world.keys() == ["song/separate_vocal/instrumental.mp3"]
        assert not [key for key in world.unfinished_uploads() if key.startswith(world.place().prefix)]

    def test_for_want_of_a_bucket_is_named_before_anything_is_paid(self, s3: S3Client) -> None:
        with pytest.raises(DestinationError, match="no bucket 'no-such-bucket'"):
            check_destination(
                s3, Location.parse("s3://no-such-bucket/x").stems("song", SeparationType.SPLIT_STEM)
            )
        assert "no-such-bucket" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

    def test_for_a_wrong_secret_is_named_before_anything_is_paid(
        self, seaweed: SeaweedServer, destination: str
    ) -> None:
        import boto3

        stranger = boto3.client(
            "s3",
            endpoint_url=seaweed.endpoint_url,
            aws_access_key_id=seaweed.access_key,
            aws_secret_access_key="wrong",
            region_name="us-east-1",
        )
        with pytest.raises(DestinationError, match="SignatureDoesNotMatch"):
            check_destination(stranger, Location.parse(destination).stems("song", SeparationType.SPLIT_STEM))

    def test_of_the_store_itself_may_pass(self, destination: str) -> None:
        import boto3
        from botocore.config import Config

        away = boto3.client(
            "s3",
            endpoint_url="http://127.0.0.1:9",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}),
        )
        with pytest.raises(StorageError, match="A retry"):
            check_destination(away, Location.parse(destination).stems("song", SeparationType.SPLIT_STEM))

    def test_is_not_what_checking_a_good_place_leaves(self, world: World) -> None:
        check_destination(world.s3, world.place())
        assert world.keys() == []
        assert not [key for key in world.unfinished_uploads() if key.startswith(world.place().prefix)]


def test_a_stem_of_300_mb_takes_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "landing_memory.py")],
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    (run,) = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert (run["peak_bytes"] - run["idle_bytes"]) / 2**20 <= MAX_MEBIBYTES
