"""The bench of the operators: a fake vendor, and a bucket of moto's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.operator_bench import OperatorBench
from tests.support.vendor import FakeVendor, account_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

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
