"""Fixtures of the operators' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from airflow_provider_vocalsep.cli.main import main
from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.operator_bench import OperatorBench
from tests.support.vendor import FakeVendor, account_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def vendor() -> FakeVendor:
    return FakeVendor()


@pytest.fixture
def bench(vendor: FakeVendor, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperatorBench]:
    with OperatorBench(vendor, ObjectStore(s3)).installed(monkeypatch) as bench:
        yield bench


@pytest.fixture
def callbacks(vendor: FakeVendor) -> None:
    """Let the vendor call back."""
    vendor.settings = account_settings(
        callback_base_url="https://airflow.example.com", callback_secret="0123456789abcdef0123456789abcdef"
    )


@pytest.fixture
def vocalsep(bench: OperatorBench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line against the bench's bucket, as wide as a pipe's default."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "80"}).invoke(main, list(arguments))

    return invoke
