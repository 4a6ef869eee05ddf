"""All ledger entries and run reports of a destination, read side by side; what cannot be read is named, not raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from airflow_provider_vocalsep.audit.bucket import (
    BucketError,
    Item,
    in_parallel,
    in_words,
    list_items,
    read_object,
)
from airflow_provider_vocalsep.ledger import LedgerEntry
from airflow_provider_vocalsep.runs.listing import Destination, RunReport, list_run_files
from airflow_provider_vocalsep.runs.report import ReportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.runs.listing import RunFile

#: Where the ledger of a destination is by default, below it.
LEDGER = "_vocalsep/ledger"


@dataclass(frozen=True)
class Found:
    """
    A ledger entry in the bucket.

    :param uri: Its address.
    :param entry: The entry; ``None`` when it cannot be read.
    :param trouble: Why not.
    """

    uri: str
    entry: LedgerEntry | None
    trouble: str = ""


@dataclass(frozen=True)
class FoundReport:
    """
    A run report in the bucket.

    :param file: Where it is, and when it was written.
    :param report: The report; ``None`` when it cannot be read.
    :param trouble: Why not.
    """

    file: RunFile
    report: RunReport | None
    trouble: str = ""


@dataclass(frozen=True)
class Archive:
    """
    What is known of a destination.

    :param client: The boto3 client.
    :param destination: ``s3://bucket/prefix`` under which stems land.
    :param ledger: Where its ledger is.
    """

    client: S3Client
    destination: Destination
    ledger: Destination

    @classmethod
    def open(cls, client: S3Client, uri: str, ledger: str | None = None) -> Archive:
        """
        Open the archive of a destination.

        :param client: The boto3 client.
        :param uri: Its address.
        :param ledger: Address of its ledger; below the destination by default.
        :raises DestinationError: an address is none in S3.
        """
        destination = Destination.parse(uri)
        return cls(client, destination, Destination.parse(ledger or f"{destination.uri}/{LEDGER}"))

    def entry_items(self) -> Iterator[Item]:
        """List the ledger's objects."""
        prefix = f"{self.ledger.prefix}/".lstrip("/")
        for item in list_items(self.client, self.ledger.bucket, prefix):
            if item.key.endswith(".json"):
                yield item

    def read_entry(self, key: str) -> Found:
        """Read a ledger entry by its key."""
        uri = f"s3://{self.ledger.bucket}/{key}"
        try:
            return Found(
                uri, LedgerEntry.model_validate_json(read_object(self.client, self.ledger.bucket, key))
            )
        except BucketError as e:
            return Found(uri, None, str(e))
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            return Found(uri, None, f"{uri} is not a ledger entry ({field}: {first['msg']}).")

    def entries(self, on_read: Callable[[], None] = lambda: None) -> Iterator[Found]:
        """
        Read all ledger entries.

        :param on_read: Called after each.
        :raises BucketError: the ledger cannot be listed.
        """
        for found in in_parallel(self.read_entry, (item.key for item in self.entry_items())):
            on_read()
            yield found

    def run_files(self) -> list[RunFile]:
        """
        List plans and reports.

        :raises BucketError: they cannot be listed.
        """
        with in_words(self.destination.bucket, self.destination.runs, "list"):
            return list(list_run_files(self.client, self.destination))

    def reports(self, files: Iterable[RunFile]) -> Iterator[FoundReport]:
        """Read the reports among some files."""
        return in_parallel(self._read_report, (file for file in files if file.planned is None))

    def _read_report(self, file: RunFile) -> FoundReport:
        where = f"s3://{self.destination.bucket}/{file.key}"
        try:
            body = read_object(self.client, self.destination.bucket, file.key)
            return FoundReport(file, RunReport.parse(body, where))
        except (BucketError, ReportError) as e:
            return FoundReport(file, None, str(e))
