"""``vocalsep prune``."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    TROUBLE,
    Age,
    about_destination,
    consoles,
    progress,
    warn_of,
)

if TYPE_CHECKING:
    from airflow_provider_vocalsep.audit.entries import Archive

EXAMPLES = """
\b
Examples:
  vocalsep prune s3://stems --older-than 90d          says what it would delete
  vocalsep prune s3://stems --older-than 90d --yes    deletes it
"""


@click.command(epilog=EXAMPLES)
@about_destination
@click.option(
    "--older-than",
    required=True,
    type=Age(),
    help="Only runs that have written nothing for so long: 90d, 12w, 1y.",
)
@click.option(
    "--dry-run/--yes", "dry_run", default=True, help="Only say what would be deleted (default), or delete it."
)
def prune(archive: Archive, older_than: float, dry_run: bool) -> None:
    """
    Delete the plans and run reports of old runs.

    Stems, manifests and ledger entries are never deleted: the ledger is what keeps anything from being paid twice, and holds the
    history. A run stays, however old, while a ledger entry that it was at is not landed or failed, or has a submit in doubt.
    If a ledger entry cannot be read, nothing is deleted.

    Exit code: 0, or 2 when something could not be read or deleted; it is named.
    """
    from airflow_provider_vocalsep.audit.prune import delete, old_runs

    before = datetime.now(tz=timezone.utc) - timedelta(days=older_than)
    with progress("Reading the ledger") as on_read:
        runs = old_runs(archive, before, lambda: on_read(1))
    out, _ = consoles()
    if not runs:
        out.print(
            f"No run at {archive.destination.uri} has been quiet for {older_than:g} days: nothing to delete.",
            soft_wrap=True,
        )
        return
    for run in runs:
        kept = (
            f"  kept: ledger entry of track {run.needed_by!r} needs it" if run.needed_by is not None else ""
        )
        click.echo(
            f"{run.last:%Y-%m-%d}  {len(run.items):6} files {run.bytes / 1e6:9.2f} MB  {run.folder}{kept}"
        )
    going = [run for run in runs if run.needed_by is None]
    files, megabytes = sum(len(run.items) for run in going), sum(run.bytes for run in going) / 1e6
    what = f"{files} files of {len(going)} runs ({megabytes:.2f} MB)"
    if dry_run:
        click.echo(f"{what} would be deleted. Nothing was: add --yes.")
        return
    with progress("Deleting", total=files) as on_deleted:
        troubles = delete(archive, going, on_deleted)
    click.echo(f"{what} deleted." if not troubles else f"{files - len(troubles)} of {what} deleted.")
    warn_of(troubles)
    if troubles:
        sys.exit(TROUBLE)
