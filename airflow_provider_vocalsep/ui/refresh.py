"""Bringing the index up to date with the bucket: one listing, and only the reports that changed."""

from __future__ import annotations

import fcntl
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.runs.listing import list_run_files, read_report
from airflow_provider_vocalsep.runs.report import ReportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.runs.listing import Destination, RunFile, RunReport
    from airflow_provider_vocalsep.ui.index import RunIndex

log = logging.getLogger(__name__)

#: Reports that are read at the same time.
READERS = 8

#: Reports between two commits: the newest show while the others are still being read.
_AT_ONCE = 40


class Refresher:
    """
    Keeps the index of one destination.

    :param index: The index.
    :param destination: The destination.
    :param client: Gives the boto3 client; what it raises of botocore's counts as a bucket that is away.
    """

    def __init__(self, index: RunIndex, destination: Destination, client: Callable[[], S3Client]) -> None:
        self.index = index
        self.destination = destination
        self.client = client

    def refresh(self, names: Mapping[str, tuple[str, str]], folder: str = "") -> None:
        """
        Read what changed since the last time. Never raises for what the bucket does: the index keeps the trouble.

        :param names: DAG and run of folders that Airflow knows.
        :param folder: Look at this DAG run only.
        """
        started = time.monotonic()
        source = self.destination.uri
        try:
            unread = self._refresh(dict(names), folder)
        except (ClientError, BotoCoreError) as e:
            log.warning("The runs at %s could not be read: %s", source, e)
            self.index.note(source, trouble=_in_words(e), listed=not folder)
        else:
            if not folder:
                self.index.note(source, listed=True, took=time.monotonic() - started)
            elif unread or self.index.status(source)["trouble"]:
                self.index.note(source)

    def _refresh(self, names: dict[str, tuple[str, str]], folder: str) -> int:
        client, source = self.client(), self.destination.uri
        known = self.index.known(source, folder)
        listed = {file.key: file for file in list_run_files(client, self.destination, folder)}
        if gone := known.keys() - listed.keys():
            self.index.forget(source, gone)
        changed = [file for file in listed.values() if known.get(file.key) != file.etag]
        # Chunks are counted by their names alone; reports say whose they are.
        if chunks := [file for file in changed if file.planned is not None]:
            self.index.put_chunks(source, chunks)
        reports = [file for file in changed if file.planned is None]
        reports.sort(key=lambda file: file.modified, reverse=True)
        with ThreadPoolExecutor(READERS, thread_name_prefix="vocalsep-reports") as pool:
            for start in range(0, len(reports), _AT_ONCE):
                part = reports[start : start + _AT_ONCE]
                read = pool.map(lambda file: self._read(client, file), part)
                self.index.put_reports(source, [found for found in read if found])
                if not folder and len(reports) > _AT_ONCE:
                    self.index.note(source, unread=max(0, len(reports) - start - _AT_ONCE))
        self.index.put_names(source, names)
        return len(changed)

    def _read(self, client: S3Client, file: RunFile) -> tuple[RunFile, RunReport] | None:
        try:
            return file, read_report(client, self.destination, file.key)
        except ReportError as e:
            log.warning("%s", e)
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") not in ("NoSuchKey", "404"):
                raise
        return None


@contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """
    Let one process do something at a time.

    :param path: A file to lock; left behind.
    :return: Whether it is us.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _in_words(error: Exception) -> str:
    if not isinstance(error, ClientError):
        return f"the object storage does not answer ({type(error).__name__})"
    code = str(error.response.get("Error", {}).get("Code", "?"))
    return {
        "NoSuchBucket": "there is no such bucket",
        "AccessDenied": "its AWS connection may not read it (AccessDenied)",
        "403": "its AWS connection may not read it (403)",
    }.get(code, f"the object storage answers {code}")
