"""What may be deleted: plans and reports of old runs that no ledger entry needs any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.audit.bucket import in_words, list_items
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.listing import folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

    from airflow_provider_vocalsep.audit.bucket import Item
    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.ledger import LedgerEntry

#: States in which nothing is owed any more.
_ENDED = (EntryState.LANDED, EntryState.FAILED)

#: Objects that one request deletes (S3 API reference, DeleteObjects).
_AT_ONCE = 1000


class UnsureError(VocalSepError):
    """It cannot be told what is still needed, so nothing is deleted."""


@dataclass
class OldRun:
    """
    A run of which everything is old.

    :param folder: Its folder, ``{dag}/{run}``.
    :param items: Its plans, rejects and reports.
    :param needed_by: Track whose ledger entry still needs it; ``None`` if none does.
    """

    folder: str
    items: list[Item] = field(default_factory=list)
    needed_by: str | None = None

    @property
    def bytes(self) -> int:
        """Their size together."""
        return sum(item.bytes for item in self.items)

    @property
    def last(self) -> datetime:
        """When the newest was written."""
        return max(item.modified for item in self.items)


def runs_needed(entries: Iterable[LedgerEntry]) -> dict[str, str]:
    """
    Tell which runs ledger entries need: all that were at an entry on which something is still owed, or in doubt.

    :param entries: All entries.
    :return: Key of such a track, by the folder of the run.
    """
    needed: dict[str, str] = {}
    for entry in entries:
        if entry.state in _ENDED and not entry.unanswered:
            continue
        askers = [*(attempt.asked_by for attempt in entry.attempts), *(e.by for e in entry.history if e.by)]
        for asker in askers:
            needed.setdefault(folder_of(asker.dag_id, asker.run_id), entry.track_key)
    return needed


def old_runs(archive: Archive, before: datetime, on_read: Callable[[], None] = lambda: None) -> list[OldRun]:
    """
    Find the runs of which everything was written before a time.

    :param archive: The destination.
    :param before: The time.
    :param on_read: Called after each ledger entry.
    :raises BucketError: the bucket cannot be listed.
    :raises UnsureError: a ledger entry cannot be read, so that it cannot be told what it needs.
    """
    place = archive.destination
    runs: dict[str, OldRun] = {}
    for item in list_items(archive.client, place.bucket, place.runs):
        parts = item.key.removeprefix(place.runs).split("/")
        if len(parts) >= 4:
            folder = "/".join(parts[:-2])
            runs.setdefault(folder, OldRun(folder)).items.append(item)
    old = [run for run in runs.values() if run.last < before]
    if not old:
        return []
    needed = runs_needed(_readable(archive, on_read))
    for run in old:
        run.needed_by = needed.get(run.folder)
    return sorted(old, key=lambda run: run.last)


def _readable(archive: Archive, on_read: Callable[[], None]) -> Iterator[LedgerEntry]:
    for found in archive.entries(on_read):
        if found.entry is None:
            raise UnsureError(f"{found.trouble} What it needs cannot be told, so nothing is deleted.")
        yield found.entry


def delete(
    archive: Archive, runs: Sequence[OldRun], on_deleted: Callable[[int], None] = lambda _: None
) -> list[str]:
    """
    Delete the files of runs.

    :param archive: The destination.
    :param runs: The runs; those that are needed are left alone.
    :param on_deleted: Told how many objects have been deleted.
    :return: What could not be deleted, and why.
    :raises BucketError: the bucket refuses.
    """
    place, troubles = archive.destination, []
    keys = [item.key for run in runs if run.needed_by is None for item in run.items]
    for start in range(0, len(keys), _AT_ONCE):
        some: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys[start : start + _AT_ONCE]]
        with in_words(place.bucket, place.runs, "delete"):
            answer = archive.client.delete_objects(
                Bucket=place.bucket, Delete={"Objects": some, "Quiet": True}
            )
        failed = answer.get("Errors", [])
        troubles += [
            f"s3://{place.bucket}/{e.get('Key')}: {e.get('Code')} {e.get('Message', '')}" for e in failed
        ]
        on_deleted(len(some) - len(failed))
    return troubles
