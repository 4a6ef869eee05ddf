"""``vocalsep prune``."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    FAILURE,
    AgeOption,
    about_destination,
    make_consoles,
    print_unreadable,
    progress,
)

if TYPE_CHECKING:
    from airflow_provider_vocalsep.audit.entries import Archive

EXAMPLES = """
\b
Examples:
  vocalsep prune s3://stems --older-than 90d          lists what it would delete
  vocalsep prune s3://stems --older-than 90d --yes    deletes it
"""


@click.command(epilog=EXAMPLES)
@about_destination
@click.option(
    "--older-than",
    required=True,
    type=AgeOption(),
    help="Only runs that have written nothing for this long: 90d, 12w, 1y.",
)
@click.option(
    "--dry-run/--yes",
    "dry_run",
    default=True,
    help="Only list what would be deleted (default), or delete it.",
)
def prune(archive: Archive, older_than: float, dry_run: bool) -> None:
    """
    Delete the plans and run reports of old runs.

    Never deletes stems, manifests or ledger entries: the ledger keeps tracks from being paid for twice, and
    has the history. A run stays, however old, while a ledger entry with this run in its history is not landed
    or failed, or has a submit in doubt. If a ledger entry cannot be read, nothing is deleted.

    Exit code: 0, or 2 when something could not be read or deleted; it is named.
    """
    from airflow_provider_vocalsep.audit.prune import delete_runs, find_old_runs

    before = datetime.now(tz=timezone.utc) - timedelta(days=older_than)
    with progress("Reading the ledger") as on_read:
        runs = find_old_runs(archive, before, lambda: on_read(1))
    out, _ = make_consoles()
    if not runs:
        out.print(
            f"No run at {archive.destination.uri} is older than {older_than:g} days: nothing to delete.",
            soft_wrap=True,
        )
        return
    for run in runs:
        kept = "" if run.needed_by is None else f"  kept: ledger entry of track {run.needed_by!r} needs it"
        click.echo(
            f"{run.last:%Y-%m-%d}  {len(run.items):6} files {run.bytes / 1e6:9.2f} MB  {run.folder}{kept}"
        )
    deletable = [run for run in runs if run.needed_by is None]
    files, megabytes = sum(len(run.items) for run in deletable), sum(run.bytes for run in deletable) / 1e6
    what = f"{files} files of {len(deletable)} runs ({megabytes:.2f} MB)"
    if dry_run:
        click.echo(f"{what} would be deleted. Nothing was: add --yes.")
        return
    with progress("Deleting", total=files) as on_deleted:
        errors = delete_runs(archive, deletable, on_deleted)
    click.echo(f"{what} deleted." if not errors else f"{files - len(errors)} of {what} deleted.")
    print_unreadable(errors)
    if errors:
        sys.exit(FAILURE)
