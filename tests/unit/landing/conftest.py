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


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    # What is not S3 goes where it would go without moto.
    with mock_aws(
        config={"core": {"mock_credentials": True, "passthrough": {"urls": [r"https?://(?!.*amazonaws)"]}}}
    ):
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="stems")
        yield client


@pytest.fixture
def world(s3: S3Client, host: StemHost) -> World:
    return World(s3, host)
