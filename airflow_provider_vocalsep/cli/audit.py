"""``vocalsep audit``."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    FAILURE,
    TimeOption,
    about_destination,
    describe_empty,
    make_consoles,
    print_unreadable,
    progress,
)

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.tracks import AuditRow, TrackAudit

#: A copy of :data:`~airflow_provider_vocalsep.audit.tracks.STATES`, whose import takes long.
_STATES = ("left", "claimed", "in_doubt", "refused", "submitted", "separated", "landed", "failed")

_STYLES = {"landed": "green", "failed": "red", "in_doubt": "red", "left": "yellow"}

EXAMPLES = """
\b
Examples:
  vocalsep audit s3://stems
  vocalsep audit s3://stems --state failed --state left --since 7d
  vocalsep audit s3://stems --run manual__2026-11-23T18:00:00+00:00
  vocalsep audit s3://stems --track 'demo/*' --format json | jq .totals
  AWS_ENDPOINT_URL=http://127.0.0.1:8333 vocalsep audit s3://stems --format csv > audit.csv
"""


@click.command(epilog=EXAMPLES)
@about_destination
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only in this state; may be repeated.",
)
@click.option(
    "--track", help="Part of the track's key or title, a pattern with *, or the id of a vendor task."
)
@click.option("--dag", "dag_id", help="Only what this DAG did.")
@click.option("--run", "run_id", help="Only what this DAG run did.")
@click.option(
    "--since", type=TimeOption(), help="Only what happened since: 2026-11-01, or 7d for the last week."
)
@click.option("--until", type=TimeOption(), help="Only what happened before.")
@click.option(
    "--format", "form", default="table", show_default=True, type=click.Choice(["table", "json", "csv"])
)
@click.option(
    "--limit", default=200, show_default=True, type=click.IntRange(0), help="Rows of the table; 0 for all."
)
def audit(
    archive: Archive,
    states: tuple[str, ...],
    track: str | None,
    dag_id: str | None,
    run_id: str | None,
    since: datetime | None,
    until: datetime | None,
    form: str,
    limit: int,
) -> None:
    """
    Show what happened to every track: its runs, dates, costs and stems.

    Reads the ledger in the bucket, and the run reports for tracks that were never claimed; Airflow need not
    run. With --dag, --run, --since or --until the counts are of that only.

    Exit code: 0, or 2 when something could not be read; it is named.
    """
    from airflow_provider_vocalsep.audit.totals import Scope
    from airflow_provider_vocalsep.audit.tracks import TrackFilter, audit_tracks

    wanted = TrackFilter(frozenset(states), track, Scope(dag_id, run_id, since, until))
    with progress("Reading the ledger") as on_read:
        found = audit_tracks(archive, wanted, lambda: on_read(1))
    if form == "json":
        _print_json(found)
    elif form == "csv":
        _print_csv(found)
    else:
        _print_table(archive, found, limit, is_filtered=wanted != TrackFilter())
    print_unreadable(found.unreadable)
    if found.unreadable:
        sys.exit(FAILURE)


def _print_json(found: TrackAudit) -> None:
    totals = {"separations": len(found.rows), "states": found.states, **found.totals.as_dict()}
    click.echo(json.dumps({"totals": totals, "tracks": [row.as_dict() for row in found.rows]}, indent=1))


def _print_csv(found: TrackAudit) -> None:
    from airflow_provider_vocalsep.audit.tracks import AuditRow

    columns = list(AuditRow("", None, "", None).as_dict())
    writer = csv.DictWriter(sys.stdout, columns)
    writer.writeheader()
    writer.writerows(row.as_dict() for row in found.rows)


def _print_table(archive: Archive, found: TrackAudit, limit: int, *, is_filtered: bool) -> None:
    out, _ = make_consoles()
    if not found.rows:
        is_empty = not is_filtered or found.unreadable
        out.print(describe_empty(archive) if is_empty else "No track matches.", soft_wrap=True)
        return
    shown = found.rows[:limit] if limit else found.rows
    out.print(_make_table(shown))
    if len(shown) < len(found.rows):
        out.print(f"and {len(found.rows) - len(shown)} more: --limit 0 shows all, --format csv writes all.")
    totals = found.totals
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))
    out.print(f"{len(found.rows)} separations: {states}", soft_wrap=True)
    out.print(
        f"{totals.submits} submits, {totals.credits:g} credits, {totals.given_back:g} given back, "
        f"{totals.failures} failures, {totals.refusals} refused submits, {totals.callbacks} callbacks, "
        f"{totals.landings} landings",
        soft_wrap=True,
    )
    if totals.in_doubt:
        out.print(
            f"{totals.in_doubt} submits in doubt: their answers were lost, and they may be paid for.",
            soft_wrap=True,
        )


def _make_table(rows: list[AuditRow]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("Track", overflow="fold")
    table.add_column("Separation")
    table.add_column("State")
    for number in ("Submits", "Credits", "Failures"):
        table.add_column(number, justify="right")
    table.add_column("Last (UTC)")
    table.add_column("Run", overflow="fold")
    for row in rows:
        kind = " ".join(part for part in (row.separation_type, row.stem_name) if part)
        table.add_row(
            Text(row.track),
            Text(kind),
            Text(row.state, style=_STYLES.get(row.state, "cyan")),
            str(row.totals.submits),
            f"{row.totals.credits - row.totals.given_back:g}",
            str(row.totals.failures),
            f"{row.last_at:%Y-%m-%d %H:%M}" if row.last_at else "",
            Text("/".join(part for part in (row.dag_id, row.run_id) if part)),
        )
    return table
