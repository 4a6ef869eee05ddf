"""What the routes ask: the index of every destination, kept fresh in the background while somebody looks."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_provider_vocalsep.runs.listing import folder_of
from airflow_provider_vocalsep.ui.destinations import Source, find_sources
from airflow_provider_vocalsep.ui.index import INDEX_VERSION, RunIndex
from airflow_provider_vocalsep.ui.refresh import Refresher, only_one
from airflow_provider_vocalsep.ui.search import RunSearch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: Seconds between two looks at a bucket, while somebody looks at the page.
EVERY = 2.0

#: A look at a bucket, or for destinations in Airflow's database, is followed by a pause of at least so many times what it took.
_REST = 4.0

#: Seconds for which boto3 clients are kept with the connection that they were made of.
_CLIENT_KEPT = 60.0

#: Seconds that a first visitor waits for the newest runs (the rest shows as it is read), and others for what is new.
_FIRST_WAIT, _WAIT = 0.4, 0.2


class RunIndexService:
    """
    Serves the routes of one process.

    :param index: The index, shared with other processes of this host.
    """

    def __init__(self, index: RunIndex) -> None:
        self.index = index
        self.search = RunSearch(index)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._connecting = threading.Lock()
        self._sources: dict[str, Source] | None = None
        self._ask_again = 0.0
        self._clients: dict[str | None, tuple[float, S3Client]] = {}
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._looked: dict[tuple[str, str], float] = {}

    def sources(self) -> dict[str, Source]:
        """Return the destinations by their address: those of a moment ago, while they are asked for anew."""
        with self._asking:
            if self._sources is None:
                return self._ask()
            if time.monotonic() > self._ask_again:
                self._ask_again = float("inf")
                threading.Thread(target=self._ask, name="vocalsep-sources", daemon=True).start()
            return self._sources

    def _ask(self) -> dict[str, Source]:
        began = time.monotonic()
        try:
            self._sources = {source.destination.uri: source for source in self._find()}
        finally:
            took = time.monotonic() - began
            self._ask_again = began + took + max(EVERY, _REST * took)
        return self._sources

    def _find(self) -> list[Source]:
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            return find_sources(session)

    def client(self, source: Source) -> S3Client:
        """Return a boto3 client of a destination."""
        with self._connecting:
            made, client = self._clients.get(source.aws_conn_id, (-_CLIENT_KEPT, None))
            if client is None or time.monotonic() - made > _CLIENT_KEPT:
                client = source.client()
                self._clients[source.aws_conn_id] = (time.monotonic(), client)
            return client

    def look(self, dag_id: str | None = None, run_id: str | None = None) -> list[str]:
        """
        See to it that the index is fresh, or is about to be.

        :param dag_id: Look at one run of this DAG.
        :param run_id: That run.
        :return: What is wrong with destinations, in words.
        """
        began = time.monotonic()
        folder = folder_of(dag_id, run_id) if dag_id and run_id else ""
        sources = self.sources()
        if folder:
            of_run = [
                sources[uri] for uri in self.search.sources_of(dag_id or "", run_id or "") if uri in sources
            ]
            chosen = of_run or list(sources.values())
        else:
            chosen = list(sources.values())
        first = not all(self.index.status(source.destination.uri)["listed_at"] for source in chosen)
        threads = [thread for source in chosen if (thread := self._start(source, folder))]
        deadline = began + (_FIRST_WAIT if first else _WAIT)
        while any(map(threading.Thread.is_alive, threads)) and time.monotonic() < deadline:
            if first and self.unread():  # the newest are there
                break
            time.sleep(0.01)
        return [
            f"{source.destination.uri}: {trouble}."
            for source in chosen
            if (trouble := self.index.status(source.destination.uri)["trouble"])
        ]

    def reading(self) -> bool:
        """Tell whether there is a destination that has never been read to the end."""
        return not all(self.index.status(uri)["listed_at"] for uri in self.sources())

    def unread(self) -> int:
        """Count the reports that are yet to be read."""
        return sum(int(self.index.status(uri)["unread"]) for uri in self.sources())

    def _start(self, source: Source, folder: str) -> threading.Thread | None:
        """Begin a look unless one is under way or was a moment ago; return one that is worth waiting for."""
        uri = source.destination.uri
        status = self.index.status(uri)
        key = (uri, folder)
        with self._lock:
            now = time.monotonic()
            running = self._threads.get(key)
            if running and running.is_alive():
                return None if status["listed_at"] else running
            took = 0.0 if folder else float(status["took"])
            last = self._looked.get(key)
            fresh_elsewhere = not folder and time.time() - status["listed_at"] < max(EVERY, _REST * took)
            if (last is not None and now - last < max(EVERY, _REST * took)) or fresh_elsewhere:
                return None
            if len(self._looked) > 1000:
                self._looked.clear()
            self._looked[key] = now
            thread = threading.Thread(target=self._refresh, args=key, name="vocalsep-index", daemon=True)
            self._threads = {k: t for k, t in self._threads.items() if t.is_alive()} | {key: thread}
            thread.start()
        return thread

    def _refresh(self, uri: str, folder: str) -> None:
        try:
            source = self.sources()[uri]
            refresher = Refresher(self.index, source.destination, lambda: self.client(source))
            if folder:
                refresher.refresh(source.names, folder)
                return
            lock = self.index.path.with_suffix(f".{hashlib.sha256(uri.encode()).hexdigest()[:12]}.lock")
            with only_one(lock) as ours:
                if ours:
                    refresher.refresh(source.names)
        except Exception as e:
            log.warning("The runs at %s could not be read.", uri, exc_info=True)
            self.index.note(
                uri,
                trouble=f"it could not be read ({type(e).__name__}; see the API server's log)",
                listed=True,
            )


@cache
def run_index_service() -> RunIndexService:
    """Return the desk of this process. Its index is in the temporary folder: it can be deleted at any time."""
    installation = f"{conf.get('database', 'sql_alchemy_conn')} {os.environ.get('AIRFLOW_HOME', '')}"
    digest = hashlib.sha256(installation.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vocalsep-page-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="vocalsep-page-"))
    return RunIndexService(RunIndex(folder / f"runs-{INDEX_VERSION}.sqlite"))
