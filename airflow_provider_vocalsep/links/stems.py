"""The link from a task instance to its stems."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey
    from mypy_boto3_s3 import S3Client

#: The S3 console's page of a prefix (docs.aws.amazon.com, "Organizing objects in the Amazon S3 console").
_CONSOLE = "https://{region}.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/"


class StemsLink(BaseOperatorLink):
    """Opens the folder of a track's stems: in the S3 console, or at the endpoint of another object store."""

    name = "Stems"
    key = "vocalsep_stems_link"

    @property
    def xcom_key(self) -> str:
        """Where the worker leaves the link."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link of a task instance, empty before its stems have landed.

        :param operator: The one that has just run: Airflow asks in the worker, and keeps the answer.
        """
        return getattr(operator, "stems_link", "")


def stems_url(client: S3Client, bucket: str, prefix: str) -> str:
    """
    Return the address at which a person sees a prefix.

    :param client: The boto3 client that wrote it.
    :param bucket: Its bucket.
    :param prefix: Its prefix, without a slash at the end.
    """
    endpoint = client.meta.endpoint_url
    if "amazonaws.com" in endpoint:
        return _CONSOLE.format(region=client.meta.region_name, bucket=bucket, prefix=quote(prefix))
    return f"{endpoint}/{bucket}/{quote(prefix)}/"
