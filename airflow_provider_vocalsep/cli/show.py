"""``vocalsep show``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import (
    about_destination,
    consoles,
    fail,
    progress,
    warn_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.timeline import Story
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
    Everything about one track: its history, what it cost, its stems and their digests.

    TRACK is the key of the catalogue, or the id of a vendor task.
    """
    from airflow_provider_vocalsep.audit.timeline import find

    with progress("Reading the ledger") as on_read:
        story = find(archive, track, lambda: on_read(1))
    warn_of(story.troubles)
    if not story.entries and not story.manifests:
        fail(
            f"There is no track {track!r} at {archive.destination.uri}. `vocalsep audit {archive.destination.uri} --track "
            f"'{track}*'` looks for keys that begin like it."
        )
    if form == "json":
        _print_json(story)
        return
    out, _ = consoles()
    for found in story.entries:
        if found.entry:
            _print_entry(out, found.entry, found.uri)
    for manifest in story.manifests:
        _print_manifest(out, manifest)


def _print_json(story: Story) -> None:
    entries = [
        {"uri": found.uri, **json.loads(found.entry.to_json())} for found in story.entries if found.entry
    ]
    manifests = [json.loads(manifest.to_json()) for manifest in story.manifests]
    click.echo(json.dumps({"entries": entries, "manifests": manifests}, indent=1, ensure_ascii=False))


def _print_entry(out: Console, entry: LedgerEntry, uri: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from airflow_provider_vocalsep.audit.timeline import details_of, who_of, words_of
    from airflow_provider_vocalsep.audit.totals import books_of
    from airflow_provider_vocalsep.audit.tracks import state_of_entry

    kind = " ".join(part for part in (entry.separation_type.value, entry.stem_name) if part)
    title = f" ({entry.title})" if entry.title and entry.title != entry.track_key else ""
    books = books_of(entry)
    out.print(
        Text(f"{entry.track_key}{title}: {kind}, {state_of_entry(entry)}", style="bold"), soft_wrap=True
    )
    out.print(Text(f"{entry.source}, paid by account {entry.account}"), soft_wrap=True)
    paid = f"{books.submits} submits, {books.credits:g} credits"
    paid += f", {books.given_back:g} given back" if books.given_back else ""
    paid += f", {books.in_doubt} in doubt" if books.in_doubt else ""
    out.print(paid, soft_wrap=True)
    table = Table()
    table.add_column("UTC", no_wrap=True)
    table.add_column("What", overflow="fold")
    table.add_column("Who", overflow="fold")
    table.add_column("More", overflow="fold")
    for event in entry.history:
        table.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            Text(words_of(event)),
            Text(who_of(event.by)),
            Text(details_of(event)),
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
