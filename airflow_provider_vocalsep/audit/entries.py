"""The ledger entries and run reports of a destination, read in parallel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_provider_vocalsep.audit.parallel import in_parallel
from airflow_provider_vocalsep.ledger import LedgerEntry, TaskInstanceRef
from airflow_provider_vocalsep.runs.listing import list_run_files, read_report
from airflow_provider_vocalsep.runs.report import ReportError
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_provider_vocalsep.audit.totals import Scope
    from airflow_provider_vocalsep.runs.listing import RunFile
    from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow
    from airflow_provider_vocalsep.storage.store import ListedObject, ObjectStore


@dataclass(frozen=True)
class StoredEntry:
    """
    A ledger entry in the bucket.

    :param uri: Its address.
    :param entry: The entry; ``None`` when it cannot be read.
    :param error: Why it cannot be read.
    """

    uri: str
    entry: LedgerEntry | None
    error: str = ""


@dataclass(frozen=True)
class StoredReport:
    """
    A run report in the bucket.

    :param file: Its key, and when it was written.
    :param report: The report; ``None`` when it cannot be read.
    :param error: Why it cannot be read.
    """

    file: RunFile
    report: BatchReport | None
    error: str = ""


@dataclass(frozen=True)
class Archive:
    """
    Ledger, plans and run reports of a destination.

    :param store: The object store.
    :param destination: Where the stems land.
    :param ledger: Where the ledger entries are.
    """

    store: ObjectStore
    destination: Location
    ledger: Location

    @classmethod
    def open(cls, store: ObjectStore, uri: str, ledger: str | None = None) -> Archive:
        """
        Open the archive of a destination.

        :param uri: Address of the destination.
        :param ledger: Address of its ledger; below the destination by default.
        :raises DestinationError: an address is not one in S3.
        """
        destination = Location.parse(uri)
        return cls(store, destination, Location.parse(ledger) if ledger else destination.ledger)

    def list_entries(self) -> Iterator[ListedObject]:
        """List the ledger's objects."""
        for item in self.store.list_objects(self.ledger.bucket, self.ledger.listing_prefix):
            if item.key.endswith(".json"):
                yield item

    def read_entry(self, key: str) -> StoredEntry:
        """Read a ledger entry by its key."""
        uri = self.ledger.uri_of(key)
        try:
            return StoredEntry(uri, LedgerEntry.model_validate_json(self.store.get(self.ledger.bucket, key)))
        except StorageError as e:
            return StoredEntry(uri, None, str(e))
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            return StoredEntry(uri, None, f"{uri} is not a ledger entry ({field}: {first['msg']}).")

    def entries(self, on_read: Callable[[], None] = lambda: None) -> Iterator[StoredEntry]:
        """
        Read all ledger entries.

        :param on_read: Called after each.
        :raises StorageError: the ledger cannot be listed.
        """
        for stored in in_parallel(self.read_entry, (item.key for item in self.list_entries())):
            on_read()
            yield stored

    def run_files(self) -> list[RunFile]:
        """
        List plans and run reports.

        :raises StorageError: they cannot be listed.
        """
        return list(list_run_files(self.store, self.destination))

    def reports(self, files: Iterable[RunFile]) -> Iterator[StoredReport]:
        """Read the run reports among some files."""
        return in_parallel(self._read_report, (file for file in files if file.planned is None))

    def _read_report(self, file: RunFile) -> StoredReport:
        try:
            return StoredReport(file, read_report(self.store, self.destination, file.key))
        except (StorageError, ReportError) as e:
            return StoredReport(file, None, str(e))


@dataclass(frozen=True)
class ReportedTrack:
    """
    A track in a run report.

    :param row: Its row.
    :param head: The first line of the report.
    :param file: The report's key, and when it was written.
    """

    row: TrackRow
    head: Mapping[str, Any]
    file: RunFile

    @property
    def kind(self) -> tuple[str | None, str | None]:
        """Separation type and stem name, if the report has them."""
        return self.head.get("separation_type"), self.head.get("stem_name")

    @property
    def written_at(self) -> datetime:
        """When the report was written."""
        return datetime.fromtimestamp(self.file.modified, tz=timezone.utc)

    def is_in(self, scope: Scope) -> bool:
        """Return whether the report is part of a scope."""
        by = TaskInstanceRef(dag_id=self.head["dag_id"], run_id=self.head["run_id"])
        return scope.covers(by, self.written_at)


def newest_rows(reports: Iterable[StoredReport]) -> Iterator[ReportedTrack]:
    """Return each separation as its newest report has it."""
    seen = set()
    for stored in sorted(reports, key=lambda stored: stored.file.modified, reverse=True):
        if stored.report is None:
            continue
        for row in stored.report.rows.values():
            reported = ReportedTrack(row, stored.report.head, stored.file)
            if (row.track, reported.kind) not in seen:
                seen.add((row.track, reported.kind))
                yield reported
