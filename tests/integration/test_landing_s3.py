"""Landing into a real S3 server."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.landing.land import check_destination, read_manifest, verify_landed
from airflow_provider_vocalsep.storage.errors import DestinationError, StorageError
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.landing_bench import LandingBench
from tests.support.stem_host import StemHost, mp3, mp3_of_bytes, running_stem_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer

ROOT = Path(__file__).parents[2]

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)

#: Largest memory for one stem of 300 MB, above an idle worker.
MAX_MEBIBYTES = 100


@pytest.fixture(scope="module")
def _host() -> Iterator[StemHost]:
    with running_stem_host() as host:
        yield host


@pytest.fixture
def bench(s3: S3Client, _host: StemHost, destination: str) -> LandingBench:
    _host.reset()
    return LandingBench(s3, _host, destination)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class TestLand:
    def test_store_confirms_the_checksum_of_every_stem(self, bench: LandingBench) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, LARGE))

        for stem, body in zip(manifest.stems, (VOCALS, LARGE), strict=True):
            assert sha256(bench.read(stem.uri)) == stem.sha256 == sha256(body)
        whole, parts = manifest.stems
        assert whole.checksum is not None
        assert len(whole.checksum) == 44
        assert parts.checksum is not None
        assert parts.checksum.endswith("-3")
        assert verify_landed(bench.store, manifest) == []
        assert read_manifest(bench.store, bench.location()) == manifest

    @pytest.mark.parametrize("seed", range(3))
    def test_stem_is_complete_though_its_download_breaks_four_times(
        self, bench: LandingBench, seed: int
    ) -> None:
        source = random.Random(seed)
        cuts = [source.randrange(1, 6_000_000) for _ in range(4)]

        manifest = bench.land(bench.serve_pair(LARGE, INSTRUMENTAL, cuts=cuts))

        assert manifest.stems[0].sha256 == sha256(LARGE) == sha256(bench.read(manifest.stems[0].uri))
        assert bench.host.requested_paths.count("/v.mp3") == 5

    @pytest.mark.parametrize("key", ["🎵 Señorita", "../up", "a//b", "100%+?&=#", "x" * 300, "~"])
    def test_track_may_have_any_name(self, bench: LandingBench, key: str) -> None:
        manifest = bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), bench.location(key))

        assert bench.read(manifest.stems[0].uri) == VOCALS
        assert verify_landed(bench.store, manifest) == []

    def test_upload_args_apply_to_every_stem(self, bench: LandingBench) -> None:
        args = {"Metadata": {"owner": "me"}, "Tagging": "team=music", "CacheControl": "no-store"}

        manifest = bench.land(bench.serve_pair(VOCALS, LARGE), upload_args=args)

        for stem in manifest.stems:
            bucket, key = parse_s3_uri(stem.uri)
            found = bench.s3.head_object(Bucket=bucket, Key=key)
            assert found["Metadata"]["owner"] == "me"
            assert found["CacheControl"] == "no-store"
            assert found["ContentType"] == "audio/mpeg"
            tags = bench.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            assert tags == [{"Key": "team", "Value": "music"}]


class TestLandAgain:
    @pytest.mark.parametrize("with_manifest", [True, False], ids=["complete", "died before the manifest"])
    def test_landed_stems_are_not_downloaded(self, bench: LandingBench, with_manifest: bool) -> None:
        task = bench.serve_pair(VOCALS, LARGE)
        first = bench.land(task)
        if not with_manifest:
            bench.delete_manifest()
        bench.host.requests.clear()

        again = bench.land(task)

        assert bench.host.requests == []
        assert again.stems == first.stems

    def test_changed_and_missing_stems_are_replaced(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, LARGE)
        manifest = bench.land(task)
        bench.overwrite("instrumental", LARGE[:-1] + b"?")
        bench.delete_stem("vocals")
        assert verify_landed(bench.store, manifest) == ["vocals", "instrumental"]

        again = bench.land(task)

        assert verify_landed(bench.store, again) == []

    def test_two_simultaneous_landings_agree(self, bench: LandingBench) -> None:
        task = bench.serve_pair(VOCALS, LARGE)

        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(lambda _: bench.land(task), range(2))

        assert [s.sha256 for s in one.stems] == [s.sha256 for s in other.stems]
        manifest = read_manifest(bench.store, bench.location())
        assert manifest is not None
        assert verify_landed(bench.store, manifest) == []


class TestFailure:
    def corrupting_client(self, seaweed: SeaweedServer, operation: str) -> S3Client:
        """Return a client that flips a bit of each body."""
        client = seaweed.client(retries={"max_attempts": 1})

        def corrupt(request: Any, **_: Any) -> None:
            if hasattr(request.body, "read"):
                body = bytearray(request.body.read(-1))
                body[len(body) // 2] ^= 1
                request.body = bytes(body)

        client.meta.events.register(f"before-send.s3.{operation}", corrupt)
        return client

    @pytest.mark.parametrize("operation, body", [("PutObject", VOCALS), ("UploadPart", LARGE)])
    def test_store_rejects_a_body_that_was_corrupted_on_the_way(
        self, bench: LandingBench, seaweed: SeaweedServer, operation: str, body: bytes
    ) -> None:
        task = bench.serve_pair(body, INSTRUMENTAL if operation == "UploadPart" else VOCALS)
        bench.s3 = self.corrupting_client(seaweed, operation)

        with pytest.raises((LandingError, StorageError)) as e:
            bench.land(task)

        assert "vocals" in str(e.value)
        assert bench.keys("song/separate_vocal/vocals") == []
        assert "song/separate_vocal/manifest.json" not in bench.keys()
        assert bench.unfinished_uploads() == []

    def test_failed_download_of_a_large_stem_leaves_no_unfinished_upload(self, bench: LandingBench) -> None:
        task = bench.serve_pair(LARGE, INSTRUMENTAL, cuts=[12_000_000], statuses=[None, 451])

        with pytest.raises(LandingError, match="answers 451") as e:
            bench.land(task)

        assert e.value.landed == ("instrumental",)
        assert bench.keys() == ["song/separate_vocal/instrumental.mp3"]
        assert bench.unfinished_uploads() == []


class TestCheckDestination:
    def check(self, client: S3Client, destination: str) -> None:
        location = Location.parse(destination).stems("song", SeparationType.SPLIT_STEM)
        check_destination(ObjectStore(client), location)

    def test_check_leaves_nothing_in_the_bucket(self, bench: LandingBench) -> None:
        check_destination(bench.store, bench.location())

        assert bench.keys() == []
        assert bench.unfinished_uploads() == []

    def test_missing_bucket_is_named_and_not_created(self, s3: S3Client) -> None:
        with pytest.raises(DestinationError, match="no bucket 'no-such-bucket'"):
            self.check(s3, "s3://no-such-bucket/x")

        assert "no-such-bucket" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

    def test_wrong_secret_key_is_a_destination_error(self, seaweed: SeaweedServer, destination: str) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=seaweed.endpoint_url,
            aws_access_key_id=seaweed.access_key,
            aws_secret_access_key="wrong",
            region_name="us-east-1",
        )

        with pytest.raises(DestinationError, match="SignatureDoesNotMatch"):
            self.check(client, destination)

    def test_unreachable_store_is_a_storage_error(self, destination: str) -> None:
        client = boto3.client(
            "s3",
            endpoint_url="http://127.0.0.1:9",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}),
        )

        with pytest.raises(StorageError, match="A retry") as e:
            self.check(client, destination)

        assert e.value.retryable


class TestMemory:
    def test_stem_of_300_mb_takes_constant_memory(self) -> None:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "landing_memory.py")],
            stdout=subprocess.PIPE,
            timeout=300,
            check=True,
        )

        (run,) = json.loads(done.stdout.splitlines()[-1])["runs"]
        assert (run["peak_bytes"] - run["idle_bytes"]) / 2**20 <= MAX_MEBIBYTES
