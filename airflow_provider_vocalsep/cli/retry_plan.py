"""``vocalsep retry-plan``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    FAILURE,
    TimeOption,
    about_destination,
    fail,
    print_unreadable,
    progress,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_vocalsep.audit.entries import Archive

EXAMPLES = """
\b
Examples:
  vocalsep retry-plan s3://stems -o failed.csv
  vocalsep retry-plan s3://stems --run scheduled__2026-11-22T00:00:00+00:00 --state left -o left.jsonl
  vocalsep retry-plan s3://stems --since 7d --separation-type split_stem -o - | aws s3 cp - s3://music/failed.csv
\b
Then, in a DAG:
  PlanCatalogueOperator(task_id="plan", catalogue="s3://music/failed.csv", destination="s3://stems")
"""


@click.command("retry-plan", epilog=EXAMPLES)
@about_destination
@click.option(
    "-o",
    "--output",
    required=True,
    help="The catalogue to write: .csv, or .jsonl; - writes CSV to standard output.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["failed", "left"]),
    help="Only these. [default: both]",
)
@click.option("--separation-type", help="Only tracks of this separation type.")
@click.option("--dag", "dag_id", help="Only of this DAG.")
@click.option("--run", "run_id", help="Only of this DAG run.")
@click.option(
    "--since",
    type=TimeOption(),
    help="Only of runs that reported since: 2026-11-01, or 7d for the last week.",
)
@click.option("--until", type=TimeOption(), help="Only of runs that reported before.")
def retry_plan(
    archive: Archive,
    output: str,
    states: tuple[str, ...],
    separation_type: str | None,
    dag_id: str | None,
    run_id: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """
    Write a catalogue of the tracks that failed, or were left because the credits were used up.

    Tracks that have landed since are left out. PlanCatalogueOperator reads the file as it is; its last two
    columns are the state and the reason.

    Exit code: 0, or 2 when something could not be read or a track's audio is no longer known; it is named.
    """
    from airflow_provider_vocalsep.audit.retry_plan import plan_retry, to_csv, to_jsonl
    from airflow_provider_vocalsep.audit.totals import Scope

    scope = Scope(dag_id, run_id, since, until)
    chosen = {"states": frozenset(states)} if states else {}
    with progress("Reading the ledger") as on_read:
        plan = plan_retry(
            archive, scope, separation_type=separation_type, on_read=lambda: on_read(1), **chosen
        )
    if len(plan.kinds) > 1:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(plan.kinds.items()))
        fail(f"These tracks have several separation types: {kinds}. Set --separation-type.")
    text = to_jsonl(plan.rows) if output.endswith((".jsonl", ".ndjson")) else to_csv(plan.rows)
    if output == "-":
        click.echo(text, nl=False)
    else:
        try:
            Path(output).write_text(text, encoding="utf-8", newline="")
        except OSError as e:
            fail(f"{output} could not be written: {e.strerror}.")
    kind = f", {next(iter(plan.kinds))}" if plan.kinds else ""
    summary = f"{len(plan.rows)} tracks to retry{kind}." if plan.rows else "No tracks failed or were left."
    click.echo(summary, err=True)
    print_unreadable(plan.problems)
    if plan.problems:
        sys.exit(FAILURE)
