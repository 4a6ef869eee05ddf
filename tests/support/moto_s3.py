"""A bucket in the memory of this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from moto import mock_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

BUCKET = "stems"


@contextmanager
def moto_s3() -> Iterator[S3Client]:
    """Return a client of an S3 with the bucket ``stems``. Requests to other servers are sent."""
    with mock_aws(
        config={"core": {"mock_credentials": True, "passthrough": {"urls": [r"https?://(?!.*amazonaws)"]}}}
    ):
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


def empty_bucket(client: S3Client) -> None:
    """Delete all objects and unfinished uploads of the bucket; quicker than a new client."""
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
