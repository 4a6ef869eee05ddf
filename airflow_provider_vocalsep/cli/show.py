"""``vocalsep show``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    about_destination,
    fail,
    make_consoles,
    print_unreadable,
    progress,
)

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.timeline import TrackHistory
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger import LedgerEntry

EXAMPLES = """
\b
Examples:
  vocalsep show s3://stems demo/daisy
  vocalsep show s3://stems 3e63b4cc88d52611159371f6af5571e7
  vocalsep show s3://stems demo/daisy --format json | jq '.entries[].history[].event'
"""


@click.command(epilog=EXAMPLES)
@about_destination
@click.argument("track")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def show(archive: Archive, track: str, form: str) -> None:
    """
    Show everything about one track: its history, what it cost, its stems and their digests.

    TRACK is the key of the catalogue, or the id of a vendor task.
    """
    from airflow_provider_vocalsep.audit.timeline import find_track

    with progress("Reading the ledger") as on_read:
        history = find_track(archive, track, lambda: on_read(1))
    print_unreadable(history.unreadable)
    if not history.entries and not history.manifests:
        fail(
            f"There is no track {track!r} at {archive.destination.uri}. "
            f"`vocalsep audit {archive.destination.uri} --track '{track}*'` lists keys that begin with it."
        )
    if form == "json":
        _print_json(history)
        return
    out, _ = make_consoles()
    for uri, entry in history.entries:
        _print_entry(out, entry, uri)
    for manifest in history.manifests:
        _print_manifest(out, manifest)


def _print_json(history: TrackHistory) -> None:
    entries = [{"uri": uri, **json.loads(entry.to_json())} for uri, entry in history.entries]
    manifests = [json.loads(manifest.to_json()) for manifest in history.manifests]
    click.echo(json.dumps({"entries": entries, "manifests": manifests}, indent=1, ensure_ascii=False))


def _print_entry(out: Console, entry: LedgerEntry, uri: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from airflow_provider_vocalsep.audit.timeline import describe_event, format_details, format_task_instance
    from airflow_provider_vocalsep.audit.totals import add_up_history
    from airflow_provider_vocalsep.audit.tracks import entry_state

    kind = " ".join(part for part in (entry.separation_type.value, entry.stem_name) if part)
    title = f" ({entry.title})" if entry.title and entry.title != entry.track_key else ""
    totals = add_up_history(entry)
    out.print(Text(f"{entry.track_key}{title}: {kind}, {entry_state(entry)}", style="bold"), soft_wrap=True)
    out.print(Text(f"{entry.source}, paid by account {entry.account}"), soft_wrap=True)
    paid = f"{totals.submits} submits, {totals.credits:g} credits"
    paid += f", {totals.given_back:g} given back" if totals.given_back else ""
    paid += f", {totals.in_doubt} in doubt" if totals.in_doubt else ""
    out.print(paid, soft_wrap=True)
    table = Table()
    table.add_column("UTC", no_wrap=True)
    table.add_column("What", overflow="fold")
    table.add_column("Who", overflow="fold")
    table.add_column("More", overflow="fold")
    for event in entry.history:
        table.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            Text(describe_event(event)),
            Text(format_task_instance(event.by)),
            Text(format_details(event)),
        )
    out.print(table)
    out.print(Text(f"Ledger entry: {uri}\n"), soft_wrap=True)


def _print_manifest(out: Console, manifest: Manifest) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Landed {manifest.landed_at:%Y-%m-%d %H:%M} UTC", title_justify="left")
    table.add_column("Stem")
    table.add_column("Seconds", justify="right")
    table.add_column("Bytes", justify="right")
    table.add_column("SHA-256")
    for stem in manifest.stems:
        length = "" if stem.duration_seconds is None else f"{stem.duration_seconds:.1f}"
        table.add_row(Text(stem.name), length, f"{stem.bytes:,}", f"{stem.sha256[:16]}…")
    for absent in manifest.absent:
        table.add_row(Text(absent.name, style="dim"), "", "", Text(absent.reason, style="dim"))
    out.print(table)
    for stem in manifest.stems:
        out.print(Text(stem.uri), soft_wrap=True)
    out.print(Text(f"{manifest.uri}\n"), soft_wrap=True)
