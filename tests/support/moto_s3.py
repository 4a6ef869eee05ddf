"""A bucket in the memory of this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import S3Backend, s3_backends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

BUCKET = "stems"


@contextmanager
def moto_s3() -> Iterator[S3Client]:
    """Return a client of an S3 without buckets. Requests to other servers are sent."""
    with (
        mock_aws(
            config={
                "core": {"mock_credentials": True, "passthrough": {"urls": [r"https?://(?!.*amazonaws)"]}}
            }
        ),
        pytest.MonkeyPatch.context() as patch,
    ):
        # For each request, moto loads the module of its URLs twice, because settings may have changed them.
        patch.setattr(S3Backend, "urls", s3_backends[DEFAULT_ACCOUNT_ID]["aws"].urls)
        yield boto3.client("s3", region_name="us-east-1")


def empty_bucket(client: S3Client) -> None:
    """Leave an empty bucket ``stems`` and nothing else in the store; quicker than a new client."""
    s3_backends.reset()
    client.create_bucket(Bucket=BUCKET)
