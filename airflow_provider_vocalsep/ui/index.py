"""
Run reports in a local SQLite file, for search and paging: a cache that can be deleted at any time.

Processes share the file. They write in short transactions, so that a page is shown while reports are still
being read.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.runs.report import RowState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_vocalsep.runs.listing import RunFile
    from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow

log = logging.getLogger(__name__)

#: Part of the file's name: another schema is another file.
INDEX_VERSION = 2

#: Seconds that a writer waits for another.
_LOCK_TIMEOUT = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, destination TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL,
  modified REAL NOT NULL, folder TEXT NOT NULL, dag_id TEXT, run_id TEXT, task_id TEXT, map_index INTEGER,
  try_number INTEGER, concluded INTEGER, planned INTEGER NOT NULL DEFAULT 0,
  tracks INTEGER NOT NULL DEFAULT 0, landed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  waiting INTEGER NOT NULL DEFAULT 0, left_out INTEGER NOT NULL DEFAULT 0, submits INTEGER, credits REAL,
  stems INTEGER, bytes INTEGER, UNIQUE (destination, key));
CREATE INDEX IF NOT EXISTS files_of_run ON files (dag_id, run_id, task_id, map_index);
CREATE INDEX IF NOT EXISTS files_in_folder ON files (destination, folder);
CREATE TABLE IF NOT EXISTS tracks (
  file INTEGER, position INTEGER, track TEXT NOT NULL, state TEXT NOT NULL, names TEXT NOT NULL,
  PRIMARY KEY (file, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS details (
  file INTEGER, position INTEGER, row TEXT NOT NULL, PRIMARY KEY (file, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS destinations (
  destination TEXT PRIMARY KEY, listed_at REAL NOT NULL DEFAULT 0, took REAL NOT NULL DEFAULT 0,
  problem TEXT, unread INTEGER NOT NULL DEFAULT 0);
"""

#: Names the DAG run of a folder's files where it is not known yet.
_NAME_FOLDER = (
    "UPDATE files SET dag_id = ?, run_id = ? WHERE destination = ? AND folder = ? AND dag_id IS NULL"
)

#: States that the page shows; it shows all others, those of newer versions too, as waiting.
_SHOWN = (RowState.PLANNED, RowState.LANDED, RowState.FAILED, RowState.LEFT)


def page_state(state: RowState) -> str:
    """Return the state that the page shows for a row: planned, waiting, landed, failed or left."""
    return (state if state in _SHOWN else RowState.WAITING).value


class RunIndex:
    """
    The index.

    :param path: The file; created if it is missing, and recreated if it is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._prepare()
        except sqlite3.DatabaseError as e:
            log.warning("The index %s is corrupt and is recreated: %s", path, e)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._prepare()

    def _prepare(self) -> None:
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.touch(mode=0o600)
        with self.open() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for a few statements."""
        if not self.path.exists():  # the temporary folder was cleaned up
            self._prepare()
        with closing(sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = OFF")
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def known(self, destination: str, folder: str = "") -> dict[str, str]:
        """Return the versions of all files of a destination, or of one run folder, by key."""
        with self.open() as db:
            rows = db.execute(
                "SELECT key, etag FROM files WHERE destination = ? AND (? = '' OR folder = ?)",
                (destination, folder, folder),
            )
            return {row["key"]: row["etag"] for row in rows}

    def put_reports(self, destination: str, reports: Iterable[tuple[RunFile, BatchReport]]) -> None:
        """Store reports, replacing older versions."""
        with self._transaction() as db:
            for file, report in reports:
                self._put_report(db, destination, file, report)

    def _put_report(
        self, db: sqlite3.Connection, destination: str, file: RunFile, report: BatchReport
    ) -> None:
        head, rows = report.head, list(report.rows.values())
        states = Counter(page_state(row.state) for row in rows)
        values = {
            "dag_id": head["dag_id"],
            "run_id": head["run_id"],
            "task_id": head["task_id"],
            "map_index": head.get("map_index", -1),
            "try_number": head.get("try_number", 0),
            "concluded": int(report.concluded),
            "tracks": len(rows),
            "landed": states["landed"],
            "failed": states["failed"],
            "left_out": states["left"],
            "waiting": states["waiting"],
            **{name: report.total(name) for name in ("submits", "credits", "stems", "bytes")},
        }
        number = self._put_file(db, destination, file, values)
        for table in ("tracks", "details"):
            db.execute(f"DELETE FROM {table} WHERE file = ?", (number,))  # noqa: S608
        db.executemany(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?)",
            (
                (number, position, row.track, page_state(row.state), _searched_names(row))
                for position, row in enumerate(rows)
            ),
        )
        db.executemany(
            "INSERT INTO details VALUES (?, ?, ?)",
            ((number, position, row.to_json()) for position, row in enumerate(rows)),
        )
        db.execute(_NAME_FOLDER, (head["dag_id"], head["run_id"], destination, file.folder))

    @staticmethod
    def _put_file(db: sqlite3.Connection, destination: str, file: RunFile, values: dict[str, Any]) -> int:
        columns = {
            "destination": destination,
            "key": file.key,
            "etag": file.etag,
            "modified": file.modified,
            "folder": file.folder,
            **values,
        }
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns)
        db.execute(
            f"INSERT INTO files ({names}) VALUES ({marks}) "  # noqa: S608
            f"ON CONFLICT (destination, key) DO UPDATE SET {updates}",
            list(columns.values()),
        )
        row = db.execute("SELECT id FROM files WHERE destination = ? AND key = ?", (destination, file.key))
        return int(row.fetchone()[0])

    def put_chunks(self, destination: str, chunks: Iterable[RunFile]) -> None:
        """Store how many tracks are planned. Reports or :meth:`put_names` add the DAG run."""
        with self._transaction() as db:
            known = {
                row["folder"]: (row["dag_id"], row["run_id"])
                for row in db.execute(
                    "SELECT DISTINCT folder, dag_id, run_id FROM files "
                    "WHERE destination = ? AND dag_id IS NOT NULL",
                    (destination,),
                )
            }
            for chunk in chunks:
                dag_id, run_id = known.get(chunk.folder, (None, None))
                values = {"planned": chunk.planned, "dag_id": dag_id, "run_id": run_id}
                self._put_file(db, destination, chunk, values)

    def put_names(self, destination: str, names: Mapping[str, tuple[str, str]]) -> None:
        """
        Store the DAG runs of folders that have only a plan.

        :param names: DAG and run id by folder.
        """
        with self.open() as db:
            nameless = db.execute(
                "SELECT DISTINCT folder FROM files WHERE destination = ? AND dag_id IS NULL", (destination,)
            ).fetchall()
        folders = [row["folder"] for row in nameless if row["folder"] in names]
        if folders:
            with self._transaction() as db:
                db.executemany(_NAME_FOLDER, [(*names[folder], destination, folder) for folder in folders])

    def forget(self, destination: str, keys: Collection[str]) -> None:
        """Remove files that no longer exist."""
        with self._transaction() as db:
            gone = json.dumps(list(keys))
            which = "SELECT id FROM files WHERE destination = ? AND key IN (SELECT value FROM json_each(?))"
            for table in ("tracks", "details"):
                db.execute(f"DELETE FROM {table} WHERE file IN ({which})", (destination, gone))  # noqa: S608
            db.execute(f"DELETE FROM files WHERE id IN ({which})", (destination, gone))  # noqa: S608

    def put_status(
        self,
        destination: str,
        *,
        problem: str | None = None,
        unread: int = 0,
        listed: bool = False,
        took: float = 0.0,
    ) -> None:
        """
        Store the status of a destination.

        :param problem: Why it cannot be read.
        :param unread: Reports that are yet to be read.
        :param listed: Whether it has just been listed and read.
        :param took: How many seconds that took.
        """
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO destinations (destination) VALUES (?)", (destination,))
            db.execute(
                "UPDATE destinations SET problem = ?, unread = ? WHERE destination = ?",
                (problem, unread, destination),
            )
            if listed:
                db.execute(
                    "UPDATE destinations SET listed_at = ?, took = ? WHERE destination = ?",
                    (time.time(), took, destination),
                )

    def status(self, destination: str) -> dict[str, Any]:
        """Return ``listed_at`` and ``took`` in seconds, ``problem`` and ``unread`` of a destination."""
        with self.open() as db:
            row = db.execute("SELECT * FROM destinations WHERE destination = ?", (destination,)).fetchone()
        return dict(row) if row else {"listed_at": 0.0, "took": 0.0, "problem": None, "unread": 0}


def _searched_names(row: TrackRow) -> str:
    return "\n".join(name for name in (row.track, row.title, row.vendor_task_id) if name).casefold()
