"""``vocalsep audit``."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from airflow_provider_vocalsep.cli.common import (
    TROUBLE,
    When,
    about_destination,
    consoles,
    nothing_at,
    progress,
    warn_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.tracks import Audit, AuditRow

#: See :data:`~airflow_provider_vocalsep.audit.tracks.STATES`, which is not imported for the list of commands.
_STATES = ("left", "claimed", "in_doubt", "submitted", "separated", "landed", "failed")

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
@click.option("--since", type=When(), help="Only what happened since: 2026-11-01, or 7d for the last week.")
@click.option("--until", type=When(), help="Only what happened before.")
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
    What happened to every track: who had it separated, when, how often, what it cost, where it landed.

    Read from the ledger in the bucket, and from the run reports for what was never claimed; Airflow need not run. With --dag,
    --run, --since or --until the counts are of that only.

    Exit code: 0, or 2 when something could not be read; it is named.
    """
    from airflow_provider_vocalsep.audit.totals import Scope
    from airflow_provider_vocalsep.audit.tracks import Wanted, audit as go_through

    wanted = Wanted(frozenset(states), track, Scope(dag_id, run_id, since, until))
    with progress("Reading the ledger") as on_read:
        answer = go_through(archive, wanted, lambda: on_read(1))
    if form == "json":
        _print_json(answer)
    elif form == "csv":
        _print_csv(answer)
    else:
        _print_table(archive, answer, limit, is_filtered=wanted != Wanted())
    warn_of(answer.troubles)
    if answer.troubles:
        sys.exit(TROUBLE)


def _totals(answer: Audit) -> dict[str, Any]:
    return {"separations": len(answer.rows), "states": answer.states, **answer.books.as_dict()}


def _print_json(answer: Audit) -> None:
    click.echo(
        json.dumps({"totals": _totals(answer), "tracks": [row.as_dict() for row in answer.rows]}, indent=1)
    )


def _print_csv(answer: Audit) -> None:
    from airflow_provider_vocalsep.audit.tracks import AuditRow

    columns = list(AuditRow("", None, "", None).as_dict())
    writer = csv.DictWriter(sys.stdout, columns)
    writer.writeheader()
    writer.writerows(row.as_dict() for row in answer.rows)


def _print_table(archive: Archive, answer: Audit, limit: int, *, is_filtered: bool) -> None:
    out, _ = consoles()
    if not answer.rows:
        out.print(
            "No track matches." if is_filtered and not answer.troubles else nothing_at(archive),
            soft_wrap=True,
        )
        return
    shown = answer.rows[:limit] if limit else answer.rows
    out.print(_table(shown))
    if len(shown) < len(answer.rows):
        out.print(f"and {len(answer.rows) - len(shown)} more: --limit 0 shows all, --format csv writes all.")
    books = answer.books
    states = ", ".join(f"{count} {state}" for state, count in sorted(answer.states.items()))
    out.print(f"{len(answer.rows)} separations: {states}", soft_wrap=True)
    out.print(
        f"{books.submits} submits, {books.credits:g} credits, {books.given_back:g} given back, {books.failures} failures, "
        f"{books.refusals} refused submits, {books.callbacks} callbacks, {books.landings} landings",
        soft_wrap=True,
    )
    if books.in_doubt:
        out.print(
            f"{books.in_doubt} submits in doubt: their answers were lost, and they may be paid for.",
            soft_wrap=True,
        )


def _table(rows: list[AuditRow]) -> Table:
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
            str(row.books.submits),
            f"{row.books.credits - row.books.given_back:g}",
            str(row.books.failures),
            f"{row.last_at:%Y-%m-%d %H:%M}" if row.last_at else "",
            Text("/".join(part for part in (row.dag_id, row.run_id) if part)),
        )
    return table
