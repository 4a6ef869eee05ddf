"""A bucket in memory, and the command line over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from airflow_provider_vocalsep.cli.main import main
from tests.support.sample_bucket import SampleBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def client(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    """Client of an empty bucket; the commands read its credentials from the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3


@pytest.fixture
def sample(client: S3Client) -> SampleBucket:
    """A destination without a history."""
    return SampleBucket(client)


@pytest.fixture
def vocalsep(client: S3Client) -> Callable[..., Result]:
    """The command line against the bucket, wide enough for tables without line breaks."""

    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(main, list(arguments))

    return invoke
