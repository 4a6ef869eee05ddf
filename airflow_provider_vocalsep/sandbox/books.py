"""The vendor's books: every submit, charge, poll, callback and download, in SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A write-ahead log survives the end of the process and costs a fraction of a rollback journal.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY CHECK (id = 1), credits REAL NOT NULL);
CREATE TABLE IF NOT EXISTS task (
    vendor_task_id TEXT PRIMARY KEY, source TEXT NOT NULL, task_id TEXT, audio_id TEXT, audio_url TEXT,
    type TEXT NOT NULL, stem_name TEXT, callback_url TEXT NOT NULL, status TEXT NOT NULL,
    created_ms INTEGER NOT NULL, completed_ms INTEGER, error_code INTEGER, error_message TEXT,
    charged REAL NOT NULL, refunded REAL NOT NULL DEFAULT 0, polls INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS stem (
    vendor_task_id TEXT NOT NULL REFERENCES task, name TEXT NOT NULL, stem_id TEXT NOT NULL,
    file_name TEXT NOT NULL, path TEXT NOT NULL, duration REAL NOT NULL, downloads INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (vendor_task_id, name)
);
CREATE INDEX IF NOT EXISTS stem_file ON stem (file_name);
CREATE TABLE IF NOT EXISTS callback (
    at_ms INTEGER NOT NULL, vendor_task_id TEXT NOT NULL, attempt INTEGER NOT NULL, url TEXT NOT NULL,
    status INTEGER, outcome TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS refusal (at_ms INTEGER NOT NULL, code INTEGER NOT NULL, source TEXT);
"""


def now_ms() -> int:
    """Return the time in epoch milliseconds, the unit of the vendor's records."""
    return int(time.time() * 1000)


class Books:
    """
    The vendor's books of one account. Safe to use from several threads.

    :param folder: Folder of the SQLite file; ``None`` keeps the books in memory.
    :param credits: Balance of a new account.
    """

    def __init__(self, folder: Path | None, credits: float) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            folder / "books.sqlite" if folder else ":memory:", check_same_thread=False, isolation_level=None
        )
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        self._run("INSERT OR IGNORE INTO account VALUES (1, ?)", credits)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @property
    def credits(self) -> float:
        """The balance."""
        return float(self._rows("SELECT credits FROM account")[0]["credits"])

    def accept(self, request: dict[str, Any], price: float) -> str | None:
        """
        Charge for a submit, and return the id of its new task.

        :param request: Body of the submit.
        :return: ``None`` if the balance is lower than the price.
        """
        with self._transaction():
            if self.credits < price:
                return None
            vendor_task_id = uuid.uuid4().hex
            self._run("UPDATE account SET credits = credits - ?", price)
            row = {
                "vendor_task_id": vendor_task_id,
                "source": source_of(request),
                "task_id": request.get("taskId"),
                "audio_id": request.get("audioId"),
                "audio_url": request.get("audioUrl"),
                "type": request["type"],
                "stem_name": request.get("stemName"),
                "callback_url": request["callBackUrl"],
                "status": "PENDING",
                "created_ms": now_ms(),
                "charged": price,
            }
            columns = ", ".join(row)
            places = ", ".join("?" * len(row))
            self._run(f"INSERT INTO task ({columns}) VALUES ({places})", *row.values())  # noqa: S608
            return vendor_task_id

    def record_refusal(self, code: int, request: dict[str, Any]) -> None:
        """Record a refused submit."""
        self._run("INSERT INTO refusal VALUES (?, ?, ?)", now_ms(), code, source_of(request))

    def finish(self, vendor_task_id: str, stems: list[dict[str, Any]]) -> None:
        """Record the stems of a task, and that it has succeeded."""
        with self._transaction():
            for stem in stems:
                values = [stem[name] for name in ("name", "stem_id", "file_name", "path", "duration")]
                self._run("INSERT OR REPLACE INTO stem VALUES (?, ?, ?, ?, ?, ?, 0)", vendor_task_id, *values)
            self._run(
                "UPDATE task SET status = 'SUCCESS', completed_ms = ? WHERE vendor_task_id = ?",
                now_ms(),
                vendor_task_id,
            )

    def fail(self, vendor_task_id: str, status: str, code: int, message: str, *, refund: bool) -> None:
        """Record that a task has failed, and refund its charge if asked to."""
        with self._transaction():
            values = (status, code, message, now_ms(), vendor_task_id)
            self._run(
                "UPDATE task SET status = ?, error_code = ?, error_message = ?, completed_ms = ?"
                " WHERE vendor_task_id = ?",
                *values,
            )
            if refund:
                self._run("UPDATE task SET refunded = charged WHERE vendor_task_id = ?", vendor_task_id)
                self._run(
                    "UPDATE account SET credits = credits +"
                    " (SELECT charged FROM task WHERE vendor_task_id = ?)",
                    vendor_task_id,
                )

    def record_callback_failed(self, vendor_task_id: str) -> None:
        """Record that the callback of a successful task could not be delivered."""
        self._run(
            "UPDATE task SET status = 'CALLBACK_EXCEPTION' WHERE vendor_task_id = ? AND status = 'SUCCESS'",
            vendor_task_id,
        )

    def record_callback(
        self, vendor_task_id: str, attempt: int, url: str, status: int | None, outcome: str
    ) -> None:
        """Record one attempt to deliver a callback."""
        values = (now_ms(), vendor_task_id, attempt, url, status, outcome)
        self._run("INSERT INTO callback VALUES (?, ?, ?, ?, ?, ?)", *values)

    def record_poll(self, vendor_task_id: str) -> None:
        """Count one status read of a task."""
        self._run("UPDATE task SET polls = polls + 1 WHERE vendor_task_id = ?", vendor_task_id)

    def record_download(self, file_name: str) -> None:
        """Count one download of a stem."""
        self._run("UPDATE stem SET downloads = downloads + 1 WHERE file_name = ?", file_name)

    def task(self, vendor_task_id: str) -> dict[str, Any] | None:
        """Return the row of a task."""
        rows = self._rows("SELECT * FROM task WHERE vendor_task_id = ?", vendor_task_id)
        return rows[0] if rows else None

    def stems(self, vendor_task_id: str) -> list[dict[str, Any]]:
        """Return the stems of a task."""
        return self._rows("SELECT * FROM stem WHERE vendor_task_id = ? ORDER BY name", vendor_task_id)

    def stem(self, file_name: str) -> dict[str, Any] | None:
        """Return the stem with a file name, and the time at which its task ended."""
        rows = self._rows(
            "SELECT stem.*, task.completed_ms, task.source, task.task_id, task.audio_id, task.audio_url"
            " FROM stem JOIN task USING (vendor_task_id) WHERE file_name = ?",
            file_name,
        )
        return rows[0] if rows else None

    def unfinished(self) -> list[str]:
        """Return the ids of pending tasks, which a restart continues."""
        rows = self._rows("SELECT vendor_task_id FROM task WHERE status = 'PENDING' ORDER BY created_ms")
        return [row["vendor_task_id"] for row in rows]

    def totals(self) -> dict[str, Any]:
        """Return the totals: submits, charges, credits, polls, callbacks, downloads, refusals by code."""
        with self._lock:
            task = self._rows(
                "SELECT count(*) AS submits, coalesce(sum(charged), 0) AS credits_charged,"
                " coalesce(sum(refunded), 0) AS credits_refunded, coalesce(sum(refunded > 0), 0) AS refunds,"
                " coalesce(sum(polls), 0) AS polls FROM task"
            )[0]
            refused = self._rows("SELECT code, count(*) AS n FROM refusal GROUP BY code")
            return {
                "credits": self.credits,
                **task,
                "charges": task["submits"],
                "callbacks": self._rows(
                    "SELECT count(*) AS n FROM callback WHERE outcome != 'not attempted'"
                )[0]["n"],
                "downloads": self._rows("SELECT coalesce(sum(downloads), 0) AS n FROM stem")[0]["n"],
                "refusals": {str(row["code"]): row["n"] for row in refused},
            }

    def report(self) -> dict[str, Any]:
        """Return the totals, one row per task with its callbacks and stems, and sums by track."""
        with self._lock:
            tasks = self._rows("SELECT * FROM task ORDER BY created_ms")
            callbacks = _group_by_task(self._rows("SELECT * FROM callback ORDER BY at_ms"))
            stems = _group_by_task(
                self._rows(
                    "SELECT vendor_task_id, name, file_name, duration, downloads FROM stem ORDER BY name"
                )
            )
            totals = self.totals()
        by_track: dict[str, dict[str, Any]] = {}
        for task in tasks:
            task["callbacks"] = callbacks[task["vendor_task_id"]]
            task["stems"] = stems[task["vendor_task_id"]]
            track = by_track.setdefault(
                task["source"], {"submits": 0, "charged": 0.0, "refunded": 0.0, "polls": 0}
            )
            track["submits"] += 1
            for column in ("charged", "refunded", "polls"):
                track[column] += task[column]
        return {**totals, "tracks": by_track, "tasks": tasks}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._run("ROLLBACK")
                raise
            self._run("COMMIT")

    def _run(self, sql: str, *values: Any) -> None:
        with self._lock:
            self._db.execute(sql, values)

    def _rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._db.execute(sql, values)]


def _group_by_task(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_task = defaultdict(list)
    for row in rows:
        by_task[row.pop("vendor_task_id")].append(row)
    return by_task


def source_of(request: dict[str, Any]) -> str:
    """Return the audio of a submit: ``taskId/audioId``, or the address of an own file without its query."""
    url = request.get("audioUrl")
    return str(url).split("?", 1)[0] if url else f"{request.get('taskId')}/{request.get('audioId')}"
