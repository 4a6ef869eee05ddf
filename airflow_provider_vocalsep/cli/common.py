"""What the commands about a destination share: their options, and how they fail and stop."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress

    from airflow_provider_vocalsep.audit.entries import Archive

#: Exit code for what could not be done or told; also click's own for wrong usage.
TROUBLE = 2

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdwy])")
_DAYS = {"h": 1 / 24, "d": 1, "w": 7, "y": 365}


class When(click.ParamType):  # type: ignore[type-arg]
    """A point in time: a date, a date and time, or so long ago."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | None:
        """Read it; without a time zone it is UTC."""
        if isinstance(value, datetime):
            return value
        days = _days(value)
        if days is not None:
            return datetime.now(tz=timezone.utc) - timedelta(days=days)
        try:
            at = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
        except ValueError:
            self.fail(
                f"{value!r} is no time. Write 2026-11-23, 2026-11-23T18:00 (UTC), or 7d for a week ago.",
                param,
                ctx,
            )
        return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


class Age(click.ParamType):  # type: ignore[type-arg]
    """A length of time, in days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        if isinstance(value, float):
            return value
        days = _days(value)
        if days is None:
            self.fail(f"{value!r} is no length of time. Write 90d, 12w, 1y or 36h.", param, ctx)
        return days


def _days(text: Any) -> float | None:
    """Read a length of time; ``None`` for what is none, or longer than a century."""
    found = _AGE.fullmatch(str(text).strip())
    days = float(found[1]) * _DAYS[found[2]] if found else None
    return days if days is not None and days <= 36525 else None


def about_destination(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its destination and the options of the object storage; it is called with the open archive."""

    @click.argument("address", metavar="s3://BUCKET/PREFIX")
    @click.option(
        "--ledger", metavar="s3://…", help="Ledger, if the DAGs set ledger=. Default: below the destination."
    )
    @click.option("--endpoint-url", help="Address of a store other than AWS. [env: AWS_ENDPOINT_URL]")
    @click.option("--profile", help="Profile of the AWS configuration. [env: AWS_PROFILE]")
    @wraps(command)
    def with_archive(
        address: str, ledger: str | None, endpoint_url: str | None, profile: str | None, **options: Any
    ) -> None:
        from airflow_provider_vocalsep.api.errors import VocalSepError
        from airflow_provider_vocalsep.audit.bucket import client_of
        from airflow_provider_vocalsep.audit.entries import Archive

        try:
            client = client_of(endpoint_url=endpoint_url, profile=profile)
            command(Archive.open(client, address, ledger), **options)
        except VocalSepError as e:
            fail(str(e))
        except KeyboardInterrupt:
            click.echo("Stopped. Run it again at any time: it begins anew.", err=True)
            sys.exit(INTERRUPTED)

    return with_archive


def fail(message: str) -> NoReturn:
    """End the command, because something could not be done or told."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(TROUBLE)


def warn_of(troubles: list[str]) -> None:
    """Name what could not be read."""
    for trouble in troubles:
        click.echo(f"Not readable: {trouble}", err=True)


def consoles() -> tuple[Console, Console]:
    """Return the console for the answer, and the one for progress and notes."""
    from rich.console import Console

    return Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def progress(
    words: str, *, total: float | None = None, in_bytes: bool = False
) -> Iterator[Callable[[float], None]]:
    """
    Show a bar, on a terminal only.

    :param words: What is going on.
    :param total: How much there is; ``None`` when that is not known.
    :param in_bytes: Whether bytes are counted, or objects.
    :return: Takes how much more is done.
    """
    _, notes = consoles()
    with _bar(notes, in_bytes=in_bytes) as bar:
        task = bar.add_task(words, total=total)

        def advance(more: float) -> None:
            bar.advance(task, more)

        yield advance


def _bar(console: Console, *, in_bytes: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counted = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *counted, TimeRemainingColumn()]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def nothing_at(archive: Archive) -> str:
    """Say that there is nothing at an address, and what to do."""
    return (
        f"There is nothing of ours at {archive.destination.uri}: no ledger at {archive.ledger.uri}/ and no run. Give the "
        "destination= of your DAGs, and --ledger if they set ledger=."
    )
