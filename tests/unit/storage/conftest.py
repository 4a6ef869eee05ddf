from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def store(s3: S3Client) -> ObjectStore:
    return ObjectStore(s3)
