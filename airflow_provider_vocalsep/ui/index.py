"""
Run reports in a local SQLite file, for search and paging: a cache that can be deleted at any time.

Processes share the file. Who writes does so in short transactions, so that a page is shown while reports are still being read.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.runs.listing import state_of
from airflow_provider_vocalsep.runs.report import RowState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from airflow_provider_vocalsep.runs.listing import RunFile, RunReport

log = logging.getLogger(__name__)

#: Part of the file's name: another shape is another file.
INDEX_VERSION = 1

#: Seconds that a writer waits for another.
_PATIENCE = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
  folder TEXT NOT NULL, dag_id TEXT, run_id TEXT, task_id TEXT, map_index INTEGER, try_number INTEGER, concluded INTEGER,
  planned INTEGER NOT NULL DEFAULT 0, tracks INTEGER NOT NULL DEFAULT 0, landed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0, left_out INTEGER NOT NULL DEFAULT 0,
  submits INTEGER, credits REAL, stems INTEGER, bytes INTEGER, UNIQUE (source, key));
CREATE INDEX IF NOT EXISTS files_of_run ON files (dag_id, run_id, task_id, map_index);
CREATE INDEX IF NOT EXISTS files_in_folder ON files (source, folder);
CREATE TABLE IF NOT EXISTS tracks (
  file INTEGER, place INTEGER, track TEXT NOT NULL, state TEXT NOT NULL, needle TEXT NOT NULL, PRIMARY KEY (file, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS details (file INTEGER, place INTEGER, row TEXT NOT NULL, PRIMARY KEY (file, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (
  source TEXT PRIMARY KEY, listed_at REAL NOT NULL DEFAULT 0, took REAL NOT NULL DEFAULT 0, trouble TEXT,
  unread INTEGER NOT NULL DEFAULT 0);
"""

#: The states of the page: what is neither ended nor untouched is on its way.
_ENDS = {RowState.PLANNED.value, RowState.LANDED.value, RowState.FAILED.value, RowState.LEFT.value}


def page_state(state: str) -> str:
    """Return the state under which the page counts a row: planned, waiting, landed, failed or left."""
    return state if state in _ENDS else RowState.WAITING.value


class RunIndex:
    """
    The index.

    :param path: The file; made when it is not there, or not there any more, and anew when it is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._prepare()
        except sqlite3.DatabaseError as e:
            log.warning("The index %s is made anew: %s", path, e)
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
        """Open the file, for a moment."""
        if not self.path.exists():  # somebody has tidied the temporary folder
            self._prepare()
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = OFF")
            yield db

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self.open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def known(self, source: str, folder: str = "") -> dict[str, str]:
        """Return the versions of all files of a destination, or of one DAG run, by key."""
        with self.open() as db:
            rows = db.execute(
                "SELECT key, etag FROM files WHERE source = ? AND (? = '' OR folder = ?)",
                (source, folder, folder),
            )
            return {row["key"]: row["etag"] for row in rows}

    def put_reports(self, source: str, reports: Iterable[tuple[RunFile, RunReport]]) -> None:
        """Keep reports in their newest version."""
        with self._change() as db:
            for file, report in reports:
                self._put_report(db, source, file, report)

    def _put_report(self, db: sqlite3.Connection, source: str, file: RunFile, report: RunReport) -> None:
        head, states = report.head, report.states()
        values = {
            "dag_id": head["dag_id"],
            "run_id": head["run_id"],
            "task_id": head["task_id"],
            "map_index": head.get("map_index", -1),
            "try_number": head.get("try_number", 0),
            "concluded": int(bool(head.get("concluded"))),
            "tracks": len(report.rows),
            "landed": states.get("landed", 0),
            "failed": states.get("failed", 0),
            "left_out": states.get("left", 0),
            "waiting": sum(n for state, n in states.items() if page_state(state) == "waiting"),
            **{name: report.sum(name) for name in ("submits", "credits", "stems", "bytes")},
        }
        number = self._put_file(db, source, file, values)
        for table in ("tracks", "details"):
            db.execute(f"DELETE FROM {table} WHERE file = ?", (number,))  # noqa: S608
        db.executemany(
            "INSERT INTO tracks VALUES (?, ?, ?, ?, ?)",
            (
                (number, place, row["track"], page_state(state_of(row)), _needle(row))
                for place, row in enumerate(report.rows)
            ),
        )
        db.executemany(
            "INSERT INTO details VALUES (?, ?, ?)",
            ((number, place, json.dumps(row)) for place, row in enumerate(report.rows)),
        )
        db.execute(
            "UPDATE files SET dag_id = ?, run_id = ? WHERE source = ? AND folder = ? AND dag_id IS NULL",
            (head["dag_id"], head["run_id"], source, file.folder),
        )

    @staticmethod
    def _put_file(db: sqlite3.Connection, source: str, file: RunFile, values: dict[str, Any]) -> int:
        values = {
            "source": source, "key": file.key, "etag": file.etag, "modified": file.modified, "folder": file.folder,
            **values,
        }  # fmt: skip
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        updates = ", ".join(f"{name} = excluded.{name}" for name in values)
        db.execute(
            f"INSERT INTO files ({names}) VALUES ({marks}) ON CONFLICT (source, key) DO UPDATE SET {updates}",  # noqa: S608
            list(values.values()),
        )
        found = db.execute("SELECT id FROM files WHERE source = ? AND key = ?", (source, file.key))
        return int(found.fetchone()[0])

    def put_chunks(self, source: str, chunks: Iterable[RunFile]) -> None:
        """Keep how many tracks are planned. Whose they are, reports or :meth:`put_names` tell."""
        with self._change() as db:
            told = {
                row["folder"]: (row["dag_id"], row["run_id"])
                for row in db.execute(
                    "SELECT DISTINCT folder, dag_id, run_id FROM files WHERE source = ? AND dag_id IS NOT NULL",
                    (source,),
                )
            }
            for chunk in chunks:
                dag_id, run_id = told.get(chunk.folder, (None, None))
                self._put_file(
                    db, source, chunk, {"planned": chunk.planned, "dag_id": dag_id, "run_id": run_id}
                )

    def put_names(self, source: str, names: dict[str, tuple[str, str]]) -> None:
        """Keep DAG and run of folders in which nothing but a plan lies yet."""
        with self.open() as db:
            nameless = db.execute(
                "SELECT DISTINCT folder FROM files WHERE source = ? AND dag_id IS NULL", (source,)
            ).fetchall()
        found = [(*names[row["folder"]], source, row["folder"]) for row in nameless if row["folder"] in names]
        if found:
            with self._change() as db:
                db.executemany(
                    "UPDATE files SET dag_id = ?, run_id = ? WHERE source = ? AND folder = ? AND dag_id IS NULL",
                    found,
                )

    def forget(self, source: str, keys: Collection[str]) -> None:
        """Leave out files that are gone."""
        with self._change() as db:
            gone = json.dumps(list(keys))
            which = "SELECT id FROM files WHERE source = ? AND key IN (SELECT value FROM json_each(?))"
            for table in ("tracks", "details"):
                db.execute(f"DELETE FROM {table} WHERE file IN ({which})", (source, gone))  # noqa: S608
            db.execute(f"DELETE FROM files WHERE id IN ({which})", (source, gone))  # noqa: S608

    def note(
        self,
        source: str,
        *,
        trouble: str | None = None,
        unread: int = 0,
        listed: bool = False,
        took: float = 0.0,
    ) -> None:
        """
        Keep how a destination is.

        :param source: The destination.
        :param trouble: Why it cannot be read.
        :param unread: Reports that are yet to be read.
        :param listed: It has just been listed and read.
        :param took: How many seconds that took.
        """
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO sources (source) VALUES (?)", (source,))
            db.execute(
                "UPDATE sources SET trouble = ?, unread = ? WHERE source = ?", (trouble, unread, source)
            )
            if listed:
                db.execute(
                    "UPDATE sources SET listed_at = ?, took = ? WHERE source = ?", (time.time(), took, source)
                )

    def status(self, source: str) -> dict[str, Any]:
        """Return ``listed_at`` and ``took`` in seconds, ``trouble`` and ``unread`` of a destination."""
        with self.open() as db:
            row = db.execute("SELECT * FROM sources WHERE source = ?", (source,)).fetchone()
        return dict(row) if row else {"listed_at": 0.0, "took": 0.0, "trouble": None, "unread": 0}


def _needle(row: dict[str, Any]) -> str:
    words = (row["track"], row.get("title"), row.get("vendor_task_id"))
    return "\n".join(str(word) for word in words if word).casefold()
