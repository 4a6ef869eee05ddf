from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from landing_host import StemHost, running_stem_host
from landing_world import World
from moto import mock_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def _host() -> Iterator[StemHost]:
    with running_stem_host() as host:
        yield host


@pytest.fixture
def host(_host: StemHost) -> StemHost:
    _host.files.clear()
    _host.requests.clear()
    _host.connections = 0
    return _host


@pytest.fixture(scope="module")
def _s3() -> Iterator[S3Client]:
    # What is not S3 goes where it would go without moto.
    elsewhere = {"passthrough": {"urls": [r"https?://(?!.*amazonaws)"]}}
    with mock_aws(config={"core": {"mock_credentials": True, **elsewhere}}):
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="stems")
        yield client


@pytest.fixture
def s3(_s3: S3Client) -> S3Client:
    """A bucket ``stems`` with nothing in it; the client is made once, because making it takes long."""
    for entry in _s3.list_objects_v2(Bucket="stems").get("Contents", []):
        _s3.delete_object(Bucket="stems", Key=entry["Key"])
    for upload in _s3.list_multipart_uploads(Bucket="stems").get("Uploads", []):
        _s3.abort_multipart_upload(Bucket="stems", Key=upload["Key"], UploadId=upload["UploadId"])
    return _s3


@pytest.fixture
def world(s3: S3Client, host: StemHost) -> World:
    return World(s3, host)
