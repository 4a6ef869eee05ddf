"""A bucket in memory, and the command line over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from airflow_provider_vocalsep.cli.main import main
from tests.support.sample_bucket import BUCKET, SampleBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Client of an empty bucket; the commands read its credentials from the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        made = boto3.client("s3")
        made.create_bucket(Bucket=BUCKET)
        yield made


@pytest.fixture
def sample(client: Any) -> SampleBucket:
    """A destination without a history."""
    return SampleBucket(client)


@pytest.fixture
def vocalsep(client: Any) -> Callable[..., Result]:
    """The command line against the bucket, wide enough for tables without line breaks."""

    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(main, list(arguments))

    return invoke
