"""Landing into buckets with other permissions and arguments."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.land import check_destination, verify_landed
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.stem_host import mp3, mp3_of_bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.landing.manifest import Manifest
    from tests.support.landing_bench import LandingBench

VOCALS, INSTRUMENTAL = mp3(20.0, 1), mp3(20.0, 2)
LARGE = mp3_of_bytes(20_000_000, 3)

pytestmark = pytest.mark.usefixtures("few_tries")


class TestCheckDestination:
    def test_check_leaves_nothing_in_the_bucket(self, bench: LandingBench) -> None:
        check_destination(
            ObjectStore(bench.s3, upload_args={"ServerSideEncryption": "AES256"}), bench.location()
        )

        assert bench.keys() == []
        assert bench.unfinished_uploads() == []

    def test_missing_bucket_is_named_with_the_remedy(self, bench: LandingBench) -> None:
        location = Location.parse("s3://nobodys-bucket/out").stems("song", SeparationType.SEPARATE_VOCAL)

        with pytest.raises(DestinationError, match="no bucket 'nobodys-bucket'. Create it"):
            check_destination(bench.store, location)
        with pytest.raises(DestinationError, match="nobodys-bucket"):
            bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), location)

    def test_invalid_upload_args_are_refused(self, bench: LandingBench) -> None:
        with pytest.raises(DestinationError, match="Storage"):
            check_destination(ObjectStore(bench.s3, upload_args={"Storage": "x"}), bench.location())


class TestUploadArgs:
    def test_upload_args_apply_to_every_object(self, bench: LandingBench) -> None:
        upload_args = {
            "ServerSideEncryption": "AES256",
            "StorageClass": "STANDARD_IA",
            "Tagging": "team=music",
            "Metadata": {"owner": "me"},
        }

        manifest = bench.land(bench.serve_pair(LARGE, INSTRUMENTAL), upload_args=upload_args)

        for uri in [*(stem.uri for stem in manifest.stems), manifest.uri]:
            bucket, key = parse_s3_uri(uri)
            found = bench.s3.head_object(Bucket=bucket, Key=key)
            assert found["ServerSideEncryption"] == "AES256"
            assert found["Metadata"]["owner"] == "me"
            assert bench.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == [
                {"Key": "team", "Value": "music"}
            ]
            assert found.get("StorageClass") == (None if uri == manifest.uri else "STANDARD_IA")
            assert found["ContentType"] == ("application/json" if uri == manifest.uri else "audio/mpeg")

    def test_invalid_upload_args_are_refused_before_a_download(self, bench: LandingBench) -> None:
        with pytest.raises(DestinationError, match="StorageKlass"):
            bench.land(bench.serve_pair(VOCALS, INSTRUMENTAL), upload_args={"StorageKlass": "GLACIER"})

        assert bench.host.requests == []


class TestWriteOnlyCredentials:
    """Credentials with s3:PutObject below ``out/`` and no other permission."""

    @pytest.fixture
    def writer(self, bench: LandingBench) -> S3Client:
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

    def test_stems_land(self, bench: LandingBench, writer: S3Client) -> None:
        task, admin = bench.serve_pair(VOCALS, LARGE), bench.store
        bench.s3 = writer

        @set_initial_no_auth_action_count(0)
        def land() -> Manifest:
            check_destination(ObjectStore(writer), bench.location())
            return bench.land(task)

        manifest = land()

        assert verify_landed(admin, manifest) == []

    def test_check_destination_refuses_another_prefix(self, bench: LandingBench, writer: S3Client) -> None:
        bench.destination = "s3://stems/elsewhere"

        @set_initial_no_auth_action_count(0)
        def check() -> None:
            check_destination(ObjectStore(writer), bench.location())

        with pytest.raises(DestinationError, match=r"s3://stems/elsewhere/.*refuses it .*s3:PutObject"):
            check()

    def test_landing_below_another_prefix_names_track_bucket_and_remedy(
        self, bench: LandingBench, writer: S3Client
    ) -> None:
        task = bench.serve_pair(VOCALS, INSTRUMENTAL)
        bench.s3, bench.destination = writer, "s3://stems/elsewhere"

        @set_initial_no_auth_action_count(0)
        def land() -> None:
            bench.land(task)

        with pytest.raises(
            DestinationError, match=r"(?s)Track 'song'.*s3://stems/elsewhere/.*refuses it .*s3:PutObject"
        ):
            land()
