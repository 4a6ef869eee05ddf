from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.moto_s3 import empty_bucket, moto_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def _s3() -> Iterator[S3Client]:
    with moto_s3() as client:
        yield client


@pytest.fixture
def s3(_s3: S3Client) -> S3Client:
    """A client of an empty bucket ``stems``."""
    empty_bucket(_s3)
    return _s3


@pytest.fixture
def store(s3: S3Client) -> ObjectStore:
    return ObjectStore(s3)
