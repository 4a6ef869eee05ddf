"""Queries to the index: runs and their counts, tracks by any part of their name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.runs.report import RowState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from airflow_provider_vocalsep.ui.index import RunIndex

_COUNTS = (
    "planned",
    "tracks",
    "landed",
    "failed",
    "waiting",
    "left_out",
    "submits",
    "credits",
    "stems",
    "bytes",
)

_RUN = f"""
SELECT dag_id, run_id, MAX(modified) AS modified, COUNT(concluded) AS batches,
  COALESCE(MIN(concluded), 0) AS concluded, {", ".join(f"SUM({name}) AS {name}" for name in _COUNTS)}
FROM files WHERE dag_id IN (SELECT value FROM json_each(:dags))
"""  # noqa: S608

_TRACKS = """
FROM tracks t JOIN files f ON f.id = t.file
WHERE f.dag_id IN (SELECT value FROM json_each(:dags)) AND (:run IS NULL OR f.run_id = :run)
  AND (:text = '' OR instr(t.names, :text))
"""

_TRACK_COLUMNS = "t.file, t.position, t.state, f.dag_id, f.run_id, f.task_id, f.map_index, f.try_number"

#: The counts of a run without reports.
NO_COUNTS: dict[str, Any] = {
    **dict.fromkeys(("batches", "landed", "failed", "waiting", "left", "tracks"), 0),
    **dict.fromkeys(("submits", "credits", "stems", "bytes", "modified")),
    "concluded": False,
}


@dataclass(frozen=True)
class TrackPage:
    """
    A page of the tracks that match.

    :param rows: The tracks.
    :param total: How many tracks match.
    :param states: How many tracks of each state match the text, whichever state is selected.
    """

    rows: list[dict[str, Any]]
    total: int
    states: dict[str, int]


class RunSearch:
    """
    Searches the index.

    :param index: The index.
    """

    def __init__(self, index: RunIndex) -> None:
        self.index = index

    def dag_ids(self) -> set[str]:
        """Return the DAGs that have a run."""
        with self.index.open() as db:
            return {row[0] for row in db.execute("SELECT DISTINCT dag_id FROM files") if row[0] is not None}

    def unknown(self, runs: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the runs, DAG and run id, that the index does not have."""
        with self.index.open() as db:
            query = "SELECT 1 FROM files WHERE dag_id = ? AND run_id = ? LIMIT 1"
            return [run for run in runs if db.execute(query, run).fetchone() is None]

    def runs(
        self, dag_ids: Collection[str], *, text: str = "", limit: int = 50, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """
        Return a page of runs with their counts, the last changed first, and how many runs match.

        :param dag_ids: DAGs whose runs may be seen.
        :param text: Part of the DAG's or the run's id.
        """
        query = (
            f"{_RUN} AND (:text = '' OR instr(lower(dag_id || ' ' || run_id), :text)) GROUP BY dag_id, run_id"
        )
        values = {
            "dags": json.dumps(list(dag_ids)),
            "text": text.lower(),
            "limit": limit,
            "offset": offset,
        }
        with self.index.open() as db:
            rows = db.execute(
                f"SELECT *, COUNT(*) OVER () AS total FROM ({query}) ORDER BY modified DESC, dag_id, run_id "  # noqa: S608
                "LIMIT :limit OFFSET :offset",
                values,
            ).fetchall()
            if rows or not offset:
                total = rows[0]["total"] if rows else 0
            else:
                total = db.execute(f"SELECT COUNT(*) FROM ({query})", values).fetchone()[0]  # noqa: S608
        return [_run_of(row) for row in rows], total

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """Return the counts of one run."""
        with self.index.open() as db:
            row = db.execute(
                f"{_RUN} AND run_id = :run GROUP BY dag_id, run_id",
                {"dags": json.dumps([dag_id]), "run": run_id},
            ).fetchone()
        return _run_of(row) if row else None

    def destinations_of(self, dag_id: str, run_id: str) -> list[str]:
        """Return the addresses of a run's destinations."""
        with self.index.open() as db:
            rows = db.execute(
                "SELECT DISTINCT destination FROM files WHERE dag_id = ? AND run_id = ?", (dag_id, run_id)
            )
            return [row[0] for row in rows]

    def tracks(
        self,
        dag_ids: Collection[str],
        run_id: str | None = None,
        *,
        text: str = "",
        state: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> TrackPage:
        """
        Search tracks.

        :param dag_ids: DAGs whose tracks may be seen.
        :param run_id: Only of this run.
        :param text: Part of the track's key or title, or of its vendor task's id; case is ignored.
        :param state: Only in this state, see :func:`~airflow_provider_vocalsep.ui.index.page_state`.
        """
        values = {"dags": json.dumps(list(dag_ids)), "run": run_id, "text": text.casefold(), "state": state}
        order = "f.modified DESC, f.id" if run_id is None else "f.task_id, f.map_index"
        with self.index.open() as db:
            states = {
                row["state"]: row["n"]
                for row in db.execute(f"SELECT t.state, COUNT(*) AS n {_TRACKS} GROUP BY t.state", values)
            }
            found = db.execute(
                f"SELECT {_TRACK_COLUMNS} {_TRACKS} AND (:state = '' OR t.state = :state) "
                f"ORDER BY {order}, t.position LIMIT :limit OFFSET :offset",
                {**values, "limit": limit, "offset": offset},
            ).fetchall()
            rows = [_track_of(db, row) for row in found]
        return TrackPage(rows, states.get(state, 0) if state else sum(states.values()), states)

    def track(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, track: str
    ) -> dict[str, Any] | None:
        """Return a track of a run."""
        with self.index.open() as db:
            row = db.execute(
                f"SELECT {_TRACK_COLUMNS}, f.destination "  # noqa: S608
                "FROM files f JOIN tracks t ON t.file = f.id "
                "WHERE f.dag_id = ? AND f.run_id = ? AND f.task_id = ? AND f.map_index = ? AND t.track = ? "
                "ORDER BY f.modified DESC LIMIT 1",
                (dag_id, run_id, task_id, map_index, track),
            ).fetchone()
            return {**_track_of(db, row), "destination": row["destination"]} if row else None


def _track_of(db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    query = "SELECT row FROM details WHERE file = ? AND position = ?"
    detail: dict[str, Any] = json.loads(db.execute(query, (row["file"], row["position"])).fetchone()["row"])
    ids = {name: row[name] for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
    row_state = detail.get("state", RowState.PLANNED.value)
    return {**detail, "state": row["state"], "row_state": row_state, **ids}


def _run_of(row: sqlite3.Row) -> dict[str, Any]:
    names = (
        "dag_id",
        "run_id",
        "modified",
        "batches",
        "landed",
        "failed",
        "waiting",
        "submits",
        "credits",
        "stems",
    )
    return {
        **{name: row[name] for name in names},
        "bytes": row["bytes"],
        "left": row["left_out"],
        "concluded": bool(row["concluded"]),
        # A plan is there before its reports, and a batch without a plan has reports only.
        "tracks": max(row["planned"], row["tracks"]),
    }
