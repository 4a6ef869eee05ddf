"""Fixtures of the unit tests."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from botocore.loaders import JSONFileLoader

from tests.support.moto_s3 import empty_bucket, moto_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session", autouse=True)
def descriptions_of_services_are_read_once() -> Iterator[None]:
    """Cache botocore's service descriptions: it reads a megabyte of JSON for each of hundreds of clients."""
    read = JSONFileLoader().load_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(functools.cache(read)))
        yield


@pytest.fixture(scope="module")
def _s3() -> Iterator[S3Client]:
    with moto_s3() as client:
        yield client


@pytest.fixture
def s3(_s3: S3Client) -> S3Client:
    """A client of an empty bucket ``stems``."""
    empty_bucket(_s3)
    return _s3
