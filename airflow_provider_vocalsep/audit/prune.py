"""Deleting plans and run reports of old runs that no ledger entry needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.listing import run_folder_of
from airflow_provider_vocalsep.storage.location import run_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.ledger import LedgerEntry
    from airflow_provider_vocalsep.storage.store import ListedObject

#: States in which neither the vendor nor Airflow has anything left to do.
_FINAL = (EntryState.LANDED, EntryState.FAILED)


class UnreadableEntryError(VocalSepError):
    """A ledger entry cannot be read, so nothing is deleted: it may need any run."""


@dataclass
class OldRun:
    """
    A run whose files are all old.

    :param folder: Its folder, ``{dag}/{run}``.
    :param items: Its plans, rejects and run reports.
    :param needed_by: Track whose ledger entry still needs it; ``None`` if none does.
    """

    folder: str
    items: list[ListedObject] = field(default_factory=list)
    needed_by: str | None = None

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(item.bytes for item in self.items)

    @property
    def last(self) -> datetime:
        """When the newest was written."""
        return max(item.modified for item in self.items)


def find_needed_runs(entries: Iterable[LedgerEntry]) -> dict[str, str]:
    """
    Find the runs that ledger entries need.

    An entry that is unfinished or has a submit in doubt needs all runs in its history.

    :param entries: All entries.
    :return: Key of such a track, by the folder of the run.
    """
    needed: dict[str, str] = {}
    for entry in entries:
        if entry.state in _FINAL and not entry.unanswered:
            continue
        instances = [
            *(attempt.asked_by for attempt in entry.attempts),
            *(e.by for e in entry.history if e.by),
        ]
        for instance in instances:
            needed.setdefault(run_key(instance.dag_id, instance.run_id), entry.track_key)
    return needed


def find_old_runs(
    archive: Archive, before: datetime, on_read: Callable[[], None] = lambda: None
) -> list[OldRun]:
    """
    Find the runs whose files were all written before a time, the oldest first.

    :param on_read: Called after each ledger entry.
    :raises StorageError: the bucket cannot be listed.
    :raises UnreadableEntryError: a ledger entry cannot be read.
    """
    destination, runs = archive.destination, dict[str, OldRun]()
    for item in archive.store.list_objects(destination.bucket, destination.runs.listing_prefix):
        if folder := run_folder_of(destination, item.key):
            runs.setdefault(folder, OldRun(folder)).items.append(item)
    old = [run for run in runs.values() if run.last < before]
    if not old:
        return []
    needed = find_needed_runs(_read_entries(archive, on_read))
    for run in old:
        run.needed_by = needed.get(run.folder)
    return sorted(old, key=lambda run: run.last)


def _read_entries(archive: Archive, on_read: Callable[[], None]) -> Iterator[LedgerEntry]:
    for stored in archive.entries(on_read):
        if stored.entry is None:
            raise UnreadableEntryError(f"{stored.error} It may need any run, so nothing is deleted.")
        yield stored.entry


def delete_runs(
    archive: Archive, runs: Sequence[OldRun], on_deleted: Callable[[int], None] = lambda _: None
) -> list[str]:
    """
    Delete the files of runs, except those of runs that are needed.

    :param on_deleted: Called with how many more objects are deleted.
    :return: What could not be deleted, and why.
    :raises StorageError: the store refuses.
    """
    keys = [item.key for run in runs if run.needed_by is None for item in run.items]
    errors: list[str] = []
    for deleted, kept in archive.store.delete(archive.destination.bucket, keys):
        errors += kept
        on_deleted(deleted)
    return errors
