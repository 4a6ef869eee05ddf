"""DAG runs in Airflow's database: their state, times and users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select, tuple_

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def read_dag_runs(runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """
    Read DAG runs.

    :param runs: DAG and run ids.
    :return: State, start, end and user of each run that Airflow still has.
    """
    wanted = list(runs)
    if not wanted:
        return {}
    key = DagRun.dag_id, DagRun.run_id
    fields = DagRun.state, DagRun.start_date, DagRun.end_date, DagRun.triggering_user_name
    with create_session(scoped=False) as session:
        rows = session.execute(select(*key, *fields).where(tuple_(*key).in_(wanted)))
        return {
            (row.dag_id, row.run_id): {
                "state": str(getattr(row.state, "value", row.state)),
                "start": _format_time(row.start_date),
                "end": _format_time(row.end_date),
                "user": row.triggering_user_name,
            }
            for row in rows
        }


def _format_time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
