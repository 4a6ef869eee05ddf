"""
The runs of a destination as they lie in the bucket: plans and run reports.

They are all that a listing of ``_vocalsep/runs/`` gives: two small files for every few hundred tracks. The ledger, with its
object a track, is never listed for it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.runs.report import ReportError, RowState
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

#: Where plans and reports lie below a destination, see :func:`~airflow_provider_vocalsep.runs.report_file.run_folder`.
RUNS = "_vocalsep/runs"

_REPORT = re.compile(r"(\d{5,})\.jsonl")
_CHUNK = re.compile(r"tracks-(\d+)-(\d+)\.jsonl")


@dataclass(frozen=True)
class Destination:
    """
    A place in a bucket under which stems land.

    :param bucket: Name of the bucket.
    :param prefix: Key prefix without a slash at either end; may be empty.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Destination:
        """
        Take an address apart.

        :param uri: ``s3://bucket/prefix``.
        :raises DestinationError: it is none.
        """
        bucket, prefix = parse_s3_uri(uri)
        return cls(bucket, prefix.strip("/"))

    @property
    def uri(self) -> str:
        """Its address, without a slash at the end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def runs(self) -> str:
        """Key prefix of all plans and reports, with a slash at the end."""
        return f"{self.prefix}/{RUNS}/".lstrip("/")

    def key_of(self, uri: str | None) -> str | None:
        """
        Return the key of an object that lies here.

        :param uri: Its address, out of a file that anybody may have written.
        :return: ``None`` for whatever is not an object under this place.
        """
        try:
            bucket, key = parse_s3_uri(uri or "")
        except DestinationError:
            return None
        parts = key.split("/")
        # A store that is a file system underneath would climb.
        inside = not self.prefix or key.startswith(f"{self.prefix}/")
        return key if bucket == self.bucket and inside and not {"", ".", ".."} & set(parts) else None


@dataclass(frozen=True)
class RunFile:
    """
    A plan's chunk or a run report.

    :param key: Its key.
    :param etag: Its version.
    :param modified: When it was written, in epoch seconds.
    :param folder: Folder of its DAG run below :attr:`Destination.runs`.
    :param planned: Tracks of a chunk; ``None`` for a report.
    """

    key: str
    etag: str
    modified: float
    folder: str
    planned: int | None = None


@dataclass(frozen=True)
class RunReport:
    """
    A run report.

    :param head: Its first line: totals and who.
    :param rows: One mapping a track, see :class:`~airflow_provider_vocalsep.runs.report.TrackRow`.
    """

    head: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def parse(cls, body: bytes, where: str = "report") -> RunReport:
        """
        Read one, of this version or a newer.

        :param body: Its bytes.
        :param where: Its address, for the message.
        :raises ReportError: it is none.
        """
        try:
            head, *rows = [json.loads(line) for line in body.decode().split("\n") if line]
            texts = [head["dag_id"], head["run_id"], head["task_id"], *(row["track"] for row in rows)]
        except (ValueError, KeyError, TypeError) as e:
            raise ReportError(f"{where} is not a run report: {type(e).__name__} {e}") from e
        if not all(isinstance(text, str) for text in texts):
            raise ReportError(f"{where} is not a run report: a name in it is not text")
        return cls(head, rows)

    def states(self) -> dict[str, int]:
        """Count the tracks by state."""
        return dict(Counter(state_of(row) for row in self.rows))

    def sum(self, name: str) -> float | None:
        """Return a total: the head's, or else of the rows; ``None`` if neither says."""
        if _is_number(self.head.get(name)):
            return float(self.head[name])
        said = [row[name] for row in self.rows if _is_number(row.get(name))]
        return float(sum(said)) if said else None


def state_of(row: dict[str, Any]) -> str:
    """Return the state of a row; fields that say nothing new are left out of a report."""
    return str(row.get("state", RowState.PLANNED.value))


def folder_of(dag_id: str, run_id: str) -> str:
    """Return the folder of a DAG run below :attr:`Destination.runs`."""
    return f"{safe_key(dag_id)}/{safe_key(run_id)}"


def list_run_files(client: S3Client, destination: Destination, folder: str = "") -> Iterator[RunFile]:
    """
    List plans and reports.

    :param client: The boto3 client.
    :param destination: Where.
    :param folder: Of this DAG run only.
    """
    start = f"{destination.runs}{folder}/" if folder else destination.runs
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=destination.bucket, Prefix=start)
    for page in pages:
        for item in page.get("Contents", []):
            found = _run_file(
                destination, item["Key"], item.get("ETag", ""), item["LastModified"].timestamp()
            )
            if found:
                yield found


def _run_file(destination: Destination, key: str, etag: str, modified: float) -> RunFile | None:
    parts = key.removeprefix(destination.runs).split("/")
    if len(parts) < 4:
        return None
    folder = "/".join(parts[:-2])
    if chunk := _CHUNK.fullmatch(parts[-1]):
        return RunFile(key, etag, modified, folder, int(chunk[2]) - int(chunk[1]) + 1)
    return RunFile(key, etag, modified, folder) if _REPORT.fullmatch(parts[-1]) else None


def read_report(client: S3Client, destination: Destination, key: str) -> RunReport:
    """
    Read a report.

    :param client: The boto3 client.
    :param destination: Where it lies.
    :param key: Its key.
    :raises ReportError: it is none.
    """
    body = client.get_object(Bucket=destination.bucket, Key=key)["Body"].read()
    return RunReport.parse(body, f"s3://{destination.bucket}/{key}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
