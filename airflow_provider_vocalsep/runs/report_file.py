"""Where run reports and plans lie in the bucket, and reading and writing them there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.ledger.ledger import utc_now
from airflow_provider_vocalsep.runs.report import BatchReport, ReportError
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.ledger import TaskInstanceRef

log = logging.getLogger(__name__)


def run_folder(destination: str, asked_by: TaskInstanceRef) -> tuple[str, str]:
    """
    Return where plans and reports of an Airflow task in a DAG run lie.

    :param destination: ``s3://bucket/prefix`` under which stems land.
    :param asked_by: The task instance.
    :return: Bucket, and key prefix without a slash at the end.
    """
    bucket, prefix = parse_s3_uri(destination)
    parts = [safe_key(part) for part in (asked_by.dag_id, asked_by.run_id, asked_by.task_id)]
    return bucket, "/".join(part for part in (prefix.strip("/"), "_vocalsep/runs", *parts) if part)


@dataclass(frozen=True)
class ReportFile:
    """
    The run report of a task instance.

    :param client: The boto3 client.
    :param destination: ``s3://bucket/prefix`` under which stems land.
    :param asked_by: The task instance.
    :param separation_type: What it asks for.
    :param stem_name: The stem that it asks for with ``split_stem_advanced``.
    """

    client: S3Client
    destination: str
    asked_by: TaskInstanceRef
    separation_type: SeparationType
    stem_name: str | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        bucket, key = self._place
        return f"s3://{bucket}/{key}"

    @property
    def _place(self) -> tuple[str, str]:
        bucket, folder = run_folder(self.destination, self.asked_by)
        return bucket, f"{folder}/{max(self.asked_by.map_index, 0):05}.jsonl"

    def read(self) -> BatchReport | None:
        """
        Read what an earlier leg or try of this task instance left.

        :return: ``None`` if there is nothing that can be read.
        :raises StorageError: the bucket did not answer.
        """
        bucket, key = self._place
        try:
            body = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return BatchReport.from_jsonl(body, where=self.uri)
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise StorageError(f"The run report {self.uri} could not be read: {e}") from e
        except BotoCoreError as e:
            raise StorageError(f"The run report {self.uri} could not be read: {e}") from e
        except ReportError as e:
            log.warning("%s; going by the ledger.", e)
            return None

    def write(self, report: BatchReport) -> None:
        """
        Write it.

        :raises StorageError: the bucket did not take it. The ledger has all that matters; a retry goes on from there.
        """
        bucket, key = self._place
        body = report.to_jsonl(
            **self.asked_by.model_dump(exclude_none=True),
            destination=self.destination,
            separation_type=self.separation_type,
            stem_name=self.stem_name,
            written_at=utc_now(),
        )
        try:
            self.client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/x-ndjson")
        except (ClientError, BotoCoreError) as e:
            raise StorageError(f"The run report {self.uri} could not be written: {e}") from e
