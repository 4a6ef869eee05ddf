"""The index of every destination, refreshed in the background while the page is open."""

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

from airflow_provider_vocalsep.storage.location import run_key
from airflow_provider_vocalsep.ui.destinations import Destination, find_destinations
from airflow_provider_vocalsep.ui.index import INDEX_VERSION, RunIndex
from airflow_provider_vocalsep.ui.refresh import Refresher, try_lock
from airflow_provider_vocalsep.ui.search import RunSearch

if TYPE_CHECKING:
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

#: Seconds between two refreshes, while the page is open.
REFRESH_INTERVAL = 2.0

#: A refresh, or a query for destinations, is followed by a pause of at least this many times its duration.
_PAUSE_FACTOR = 4.0

#: Seconds for which an object store is kept: a changed connection is used after them.
_STORE_KEPT = 60.0

#: Seconds that a request waits for a first refresh, and for a later one.
_FIRST_WAIT, _WAIT = 0.4, 0.2


class RunIndexService:
    """
    The index as the routes of one process use it.

    :param index: The index, shared with other processes of this host.
    """

    def __init__(self, index: RunIndex) -> None:
        self.index = index
        self.search = RunSearch(index)
        self._threads_lock = threading.Lock()
        self._destinations_lock = threading.Lock()
        self._stores_lock = threading.Lock()
        self._destinations: dict[str, Destination] | None = None
        self._find_again_at = 0.0
        self._stores: dict[str | None, tuple[float, ObjectStore]] = {}
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._started_at: dict[tuple[str, str], float] = {}

    def destinations(self) -> dict[str, Destination]:
        """Return the destinations by address: the last known ones, while a thread queries for new ones."""
        with self._destinations_lock:
            if self._destinations is None:
                return self._update_destinations()
            if time.monotonic() > self._find_again_at:
                self._find_again_at = float("inf")
                threading.Thread(
                    target=self._update_destinations, name="vocalsep-destinations", daemon=True
                ).start()
            return self._destinations

    def _update_destinations(self) -> dict[str, Destination]:
        began = time.monotonic()
        try:
            self._destinations = {destination.uri: destination for destination in self._find_destinations()}
        finally:
            self._find_again_at = time.monotonic() + _pause_after(time.monotonic() - began)
        return self._destinations

    def _find_destinations(self) -> list[Destination]:
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            return find_destinations(session)

    def store(self, destination: Destination) -> ObjectStore:
        """Return the object store of a destination."""
        with self._stores_lock:
            made_at, store = self._stores.get(destination.aws_conn_id, (-_STORE_KEPT, None))
            if store is None or time.monotonic() - made_at > _STORE_KEPT:
                store = destination.open_store()
                self._stores[destination.aws_conn_id] = (time.monotonic(), store)
            return store

    def refresh(self, dag_id: str | None = None, run_id: str | None = None) -> list[str]:
        """
        Start refreshes of the index where they are due, and wait for them a little.

        :param dag_id: Only one run of this DAG.
        :param run_id: The run.
        :return: Why destinations cannot be read.
        """
        began = time.monotonic()
        destinations = list(self.destinations().values())
        folder = run_key(dag_id, run_id) if dag_id and run_id else ""
        if dag_id and run_id:
            of_run = self.search.destinations_of(dag_id, run_id)
            destinations = [each for each in destinations if each.uri in of_run] or destinations
        is_first = not all(self.index.status(each.uri)["listed_at"] for each in destinations)
        threads = [thread for each in destinations if (thread := self._start(each, folder))]
        deadline = began + (_FIRST_WAIT if is_first else _WAIT)
        while any(map(threading.Thread.is_alive, threads)) and time.monotonic() < deadline:
            if is_first and self.count_unread():  # the newest reports are in the index
                break
            time.sleep(0.01)
        statuses = [self.index.status(each.uri) for each in destinations]
        return [status["problem"] for status in statuses if status["problem"]]

    def is_reading(self) -> bool:
        """Return whether there is a destination that has never been read completely."""
        return not all(self.index.status(uri)["listed_at"] for uri in self.destinations())

    def count_unread(self) -> int:
        """Count the reports that are yet to be read."""
        return sum(int(self.index.status(uri)["unread"]) for uri in self.destinations())

    def _start(self, destination: Destination, folder: str) -> threading.Thread | None:
        """Start a refresh if it is due; return the thread if a request is to wait for it."""
        uri = destination.uri
        status = self.index.status(uri)
        key = (uri, folder)
        with self._threads_lock:
            now = time.monotonic()
            running = self._threads.get(key)
            if running and running.is_alive():
                return None if status["listed_at"] else running
            pause = _pause_after(0.0 if folder else float(status["took"]))
            started_at = self._started_at.get(key)
            is_fresh_elsewhere = not folder and time.time() - status["listed_at"] < pause
            if (started_at is not None and now - started_at < pause) or is_fresh_elsewhere:
                return None
            if len(self._started_at) > 1000:
                self._started_at.clear()
            self._started_at[key] = now
            thread = threading.Thread(target=self._refresh, args=key, name="vocalsep-index", daemon=True)
            self._threads = {k: t for k, t in self._threads.items() if t.is_alive()} | {key: thread}
            thread.start()
        return thread

    def _refresh(self, uri: str, folder: str) -> None:
        try:
            destination = self.destinations()[uri]
            refresher = Refresher(self.index, destination.location, lambda: self.store(destination))
            if folder:
                refresher.refresh(destination.names, folder)
                return
            lock = self.index.path.with_suffix(f".{hashlib.sha256(uri.encode()).hexdigest()[:12]}.lock")
            with try_lock(lock) as is_locked:
                if is_locked:
                    refresher.refresh(destination.names)
        except Exception as e:
            log.warning("The runs at %s could not be read.", uri, exc_info=True)
            problem = f"The runs at {uri} could not be read ({type(e).__name__}; see the API server's log)."
            self.index.put_status(uri, problem=problem, listed=True)


def _pause_after(took: float) -> float:
    return max(REFRESH_INTERVAL, _PAUSE_FACTOR * took)


@cache
def run_index_service() -> RunIndexService:
    """Return the service of this process. Its index is in the temporary folder and may be deleted."""
    installation = f"{conf.get('database', 'sql_alchemy_conn')} {os.environ.get('AIRFLOW_HOME', '')}"
    digest = hashlib.sha256(installation.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vocalsep-page-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="vocalsep-page-"))
    return RunIndexService(RunIndex(folder / f"runs-{INDEX_VERSION}.sqlite"))
