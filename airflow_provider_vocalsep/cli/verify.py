"""``vocalsep verify``."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import INTERRUPTED, about_destination, consoles, progress

if TYPE_CHECKING:
    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.verify import Verdicts

EXAMPLES = """
\b
Examples:
  vocalsep verify s3://stems
  vocalsep verify s3://stems --track demo/daisy
  vocalsep verify s3://stems/album-7 --threads 32
  vocalsep verify s3://stems --format json > verified.json || mail -s 'stems have changed' me@example.com < verified.json
"""


@click.command(epilog=EXAMPLES)
@about_destination
@click.option("--track", help="Only this track: its key, as in the catalogue.")
@click.option(
    "--threads",
    default=8,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Tracks read at the same time.",
)
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def verify(archive: Archive, track: str | None, threads: int, form: str) -> None:
    """
    Are the stems still the bytes that landed? Reads each again and compares its size and SHA-256 with its manifest.

    Also names manifests that the ledger knows and the bucket has lost. Memory does not grow with stems or tracks; every byte is
    downloaded, so run it close to the bucket. What is missing or different the next DAG run lands again, without paying while
    the vendor still has it; a change that leaves size and store's checksum as they were it does not see: delete such a stem.

    Exit code: 0 all is as it landed, 1 something is missing or different, 2 something could not be read.
    """
    from airflow_provider_vocalsep.audit.verify import Verdicts, Verifier

    stop, total = threading.Event(), Verdicts()
    verifier = Verifier(archive, stop)
    keys = verifier.manifests()
    interrupted = False
    try:
        with progress("Verifying tracks", total=len(keys)) as on_track:
            for verdicts in verifier.check(keys, track=track, threads=threads):
                total.add(verdicts)
                on_track(1)
        if track is None:
            total.problems += list(verifier.lost_manifests(keys))
    except KeyboardInterrupt:
        stop.set()
        interrupted = True
    _report(archive, total, form, interrupted=interrupted, of=len(keys), track=track)
    sys.exit(INTERRUPTED if interrupted else total.exit_code)


def _report(
    archive: Archive, total: Verdicts, form: str, *, interrupted: bool, of: int, track: str | None
) -> None:
    out, notes = consoles()
    problems = sorted(total.problems, key=lambda problem: (problem.track or "", problem.uri))
    if form == "json":
        counts = {
            "tracks": total.tracks,
            "stems": total.stems,
            "bytes": total.bytes,
            "complete": not interrupted,
        }
        click.echo(json.dumps({**counts, "problems": [vars(problem) for problem in problems]}, indent=1))
        return
    for problem in problems:
        named = f" (track {problem.track!r})" if problem.track else ""
        click.echo(f"{problem.kind:9}  {problem.uri}{named}: {problem.message}")
    if not (total.tracks or problems or interrupted):
        what = f"track {track!r}" if track else "stems"
        out.print(
            f"There is no manifest of {what} at {archive.destination.uri}: nothing to verify.", soft_wrap=True
        )
    else:
        megabytes = total.bytes / 1e6
        out.print(
            f"{total.stems} stems of {total.tracks} tracks ({megabytes:,.1f} MB) are as they landed; {len(problems)} are not."
        )
    if interrupted:
        notes.print(f"Stopped after {total.tracks} of {of} tracks. A new run begins at the first.")
