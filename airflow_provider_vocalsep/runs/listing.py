"""
The plans and run reports of a destination, as a listing shows them.

There are two small files for every few hundred tracks. The ledger has an object for each track, so it is not
listed for this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.runs.report import BatchReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ListedObject, ObjectStore

_REPORT = re.compile(r"\d{5,}\.jsonl")
_CHUNK = re.compile(r"tracks-(\d+)-(\d+)\.jsonl")


@dataclass(frozen=True)
class RunFile:
    """
    A chunk of a plan, or a run report.

    :param key: Its key.
    :param etag: Its version.
    :param modified: When it was written, in epoch seconds.
    :param folder: Folder of its DAG run, see :func:`~airflow_provider_vocalsep.storage.location.run_key`.
    :param planned: Tracks of a chunk; ``None`` for a report.
    """

    key: str
    etag: str
    modified: float
    folder: str
    planned: int | None = None


def run_folder_of(destination: Location, key: str) -> str | None:
    """Return the folder of the DAG run that an object belongs to, ``None`` if it belongs to none."""
    parts = key.removeprefix(destination.runs.listing_prefix).split("/")
    return "/".join(parts[:-2]) if len(parts) >= 4 else None


def list_run_files(store: ObjectStore, destination: Location, folder: str = "") -> Iterator[RunFile]:
    """
    List plans and run reports.

    :param folder: Only of this DAG run, see :func:`~airflow_provider_vocalsep.storage.location.run_key`.
    :raises StorageError: they could not be listed.
    """
    prefix = destination.runs.folder(folder).listing_prefix
    for item in store.list_objects(destination.bucket, prefix):
        if file := _parse_run_file(destination, item):
            yield file


def _parse_run_file(destination: Location, item: ListedObject) -> RunFile | None:
    folder, name = run_folder_of(destination, item.key), item.key.rpartition("/")[2]
    if folder is None:
        return None
    if chunk := _CHUNK.fullmatch(name):
        planned = int(chunk[2]) - int(chunk[1]) + 1
        return RunFile(item.key, item.etag, item.modified.timestamp(), folder, planned)
    if _REPORT.fullmatch(name):
        return RunFile(item.key, item.etag, item.modified.timestamp(), folder)
    return None


def read_report(store: ObjectStore, destination: Location, key: str) -> BatchReport:
    """
    Read a run report.

    :raises StorageError: it could not be read.
    :raises ReportError: it is not a run report.
    """
    body = store.get(destination.bucket, key)
    return BatchReport.from_jsonl(body, where=destination.uri_of(key))
