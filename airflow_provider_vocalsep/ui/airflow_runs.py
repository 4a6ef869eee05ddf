"""What Airflow itself says of DAG runs: their state, when they ran, who started them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select, tuple_

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def runs_in_airflow(runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """
    Look DAG runs up.

    :param runs: DAG and run ids.
    :return: State, start, end and user of those that Airflow still has.
    """
    wanted = list(runs)
    if not wanted:
        return {}
    fields = (
        DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.end_date, DagRun.triggering_user_name,
    )  # fmt: skip
    with create_session(scoped=False) as session:
        rows = session.execute(select(*fields).where(tuple_(DagRun.dag_id, DagRun.run_id).in_(wanted)))
        return {
            (row.dag_id, row.run_id): {
                "state": str(getattr(row.state, "value", row.state)),
                "start": _iso(row.start_date),
                "end": _iso(row.end_date),
                "user": row.triggering_user_name,
            }
            for row in rows
        }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
