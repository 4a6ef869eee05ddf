"""Updating the index from the bucket: one listing, and only the reports that changed."""

from __future__ import annotations

import fcntl
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.runs.listing import list_run_files, read_report
from airflow_provider_vocalsep.runs.report import ReportError
from airflow_provider_vocalsep.storage.errors import NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_vocalsep.runs.listing import RunFile
    from airflow_provider_vocalsep.runs.report import BatchReport
    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore
    from airflow_provider_vocalsep.ui.index import RunIndex

log = logging.getLogger(__name__)

#: Reports that are read at the same time.
_READERS = 8

#: Reports between two commits: the newest show while the others are still being read.
_COMMITTED_AT_ONCE = 40


class Refresher:
    """
    Updates the index of one destination.

    :param destination: The destination.
    :param open_store: Opens its object store.
    """

    def __init__(self, index: RunIndex, destination: Location, open_store: Callable[[], ObjectStore]) -> None:
        self.index = index
        self.destination = destination
        self.open_store = open_store

    def refresh(self, names: Mapping[str, tuple[str, str]], folder: str = "") -> None:
        """
        Read what changed since the last refresh. Storage errors are stored in the index, not raised.

        :param names: DAG and run ids of run folders that Airflow remembers.
        :param folder: Only this run folder.
        """
        started = time.monotonic()
        uri = self.destination.uri
        try:
            changed = self._refresh(names, folder)
        except StorageError as e:
            log.warning("The runs at %s could not be read: %s", uri, e)
            self.index.put_status(uri, problem=str(e), listed=not folder)
        else:
            if not folder:
                self.index.put_status(uri, listed=True, took=time.monotonic() - started)
            elif changed or self.index.status(uri)["problem"]:
                self.index.put_status(uri)

    def _refresh(self, names: Mapping[str, tuple[str, str]], folder: str) -> int:
        """Update the index; return how many files changed."""
        store, uri = self.open_store(), self.destination.uri
        known = self.index.known(uri, folder)
        listed = {file.key: file for file in list_run_files(store, self.destination, folder)}
        if gone := known.keys() - listed.keys():
            self.index.forget(uri, gone)
        changed = [file for file in listed.values() if known.get(file.key) != file.etag]
        # The name of a chunk has the number of its tracks; the chunk itself is not read.
        if chunks := [file for file in changed if file.planned is not None]:
            self.index.put_chunks(uri, chunks)
        reports = [file for file in changed if file.planned is None]
        reports.sort(key=lambda file: file.modified, reverse=True)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="vocalsep-reports") as pool:
            for start in range(0, len(reports), _COMMITTED_AT_ONCE):
                part = reports[start : start + _COMMITTED_AT_ONCE]
                read = pool.map(lambda file: self._read(store, file), part)
                self.index.put_reports(uri, [item for item in read if item])
                if not folder and len(reports) > _COMMITTED_AT_ONCE:
                    self.index.put_status(uri, unread=max(0, len(reports) - start - _COMMITTED_AT_ONCE))
        self.index.put_names(uri, names)
        return len(changed)

    def _read(self, store: ObjectStore, file: RunFile) -> tuple[RunFile, BatchReport] | None:
        try:
            return file, read_report(store, self.destination, file.key)
        except ReportError as e:
            log.warning("%s", e)
        except NotFoundError:  # deleted since it was listed
            pass
        return None


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """
    Lock a file without waiting, so that one process at a time does something.

    :param path: The file; it is left behind.
    :return: Whether this process has the lock.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
