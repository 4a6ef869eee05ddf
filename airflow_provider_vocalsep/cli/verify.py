"""``vocalsep verify``."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING

import click

from airflow_provider_vocalsep.cli.common import INTERRUPTED, about_destination, make_consoles, progress

if TYPE_CHECKING:
    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.audit.verify import Problem, VerifyResult

EXAMPLES = """
\b
Examples:
  vocalsep verify s3://stems
  vocalsep verify s3://stems --track demo/daisy
  vocalsep verify s3://stems/album-7 --threads 32
  vocalsep verify s3://stems --format json > out.json || mail -s 'stems changed' me@example.com < out.json
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
    Read every stem and compare its size and SHA-256 with its manifest.

    Also lists manifests that the ledger names and the bucket has lost. Memory does not grow with stems or
    tracks; every byte is downloaded, so run it close to the bucket. The next DAG run lands missing or
    different stems again, without paying while the vendor still has them. It does not notice a change that
    keeps size and the store's checksum: delete such a stem.

    Exit code: 0 all is as it landed, 1 something is missing or different, 2 something could not be read.
    """
    from airflow_provider_vocalsep.audit.verify import Verifier, VerifyResult

    stop, total = threading.Event(), VerifyResult()
    verifier = Verifier(archive, stop)
    keys = verifier.manifests()
    interrupted = False
    try:
        with progress("Verifying tracks", total=len(keys)) as on_track:
            for result in verifier.check(keys, track=track, threads=threads):
                total.add(result)
                on_track(1)
        if track is None:
            total.problems += list(verifier.lost_manifests(keys))
    except KeyboardInterrupt:
        stop.set()
        interrupted = True
    if form == "json":
        _print_json(total, interrupted=interrupted)
    else:
        _print_problems(total)
        _print_summary(archive, total, track, interrupted=interrupted)
        if interrupted:
            _, notes = make_consoles()
            notes.print(
                f"Stopped after {total.tracks} of {len(keys)} tracks. A new run starts with the first."
            )
    sys.exit(INTERRUPTED if interrupted else total.exit_code)


def _sort_problems(total: VerifyResult) -> list[Problem]:
    return sorted(total.problems, key=lambda problem: (problem.track or "", problem.uri))


def _print_json(total: VerifyResult, *, interrupted: bool) -> None:
    counts = {"tracks": total.tracks, "stems": total.stems, "bytes": total.bytes, "complete": not interrupted}
    problems = [vars(problem) for problem in _sort_problems(total)]
    click.echo(json.dumps({**counts, "problems": problems}, indent=1))


def _print_problems(total: VerifyResult) -> None:
    for problem in _sort_problems(total):
        named = f" (track {problem.track!r})" if problem.track else ""
        click.echo(f"{problem.kind:9}  {problem.uri}{named}: {problem.message}")


def _print_summary(archive: Archive, total: VerifyResult, track: str | None, *, interrupted: bool) -> None:
    out, _ = make_consoles()
    if not (total.tracks or total.problems or interrupted):
        what = f"track {track!r}" if track else "stems"
        message = f"There is no manifest of {what} at {archive.destination.uri}: nothing to verify."
        out.print(message, soft_wrap=True)
        return
    out.print(
        f"{total.stems} stems of {total.tracks} tracks ({total.bytes / 1e6:,.1f} MB) are as they landed; "
        f"{len(total.problems)} are not."
    )
