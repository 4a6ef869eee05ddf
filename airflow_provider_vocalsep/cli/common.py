"""Options, errors and output that the commands about a destination share."""

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

#: Exit code of a command that failed or could not read everything; also click's own for wrong usage.
FAILURE = 2

#: Exit code after Ctrl-C, as of a shell.
INTERRUPTED = 130

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdwy])")
_DAYS = {"h": 1 / 24, "d": 1, "w": 7, "y": 365}


class TimeOption(click.ParamType):  # type: ignore[type-arg]
    """A point in time: a date, a date and time, or a time ago."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | None:
        """Parse it; without a time zone it is UTC."""
        if isinstance(value, datetime):
            return value
        days = _parse_days(value)
        if days is not None:
            return datetime.now(tz=timezone.utc) - timedelta(days=days)
        try:
            at = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
        except ValueError:
            self.fail(
                f"{value!r} is not a time. Write 2026-11-23, 2026-11-23T18:00 (UTC), or 7d for a week ago.",
                param,
                ctx,
            )
        return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


class AgeOption(click.ParamType):  # type: ignore[type-arg]
    """A length of time, in days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it."""
        if isinstance(value, float):
            return value
        days = _parse_days(value)
        if days is None:
            self.fail(f"{value!r} is not an age. Write 90d, 12w, 1y or 36h.", param, ctx)
        return days


def _parse_days(text: Any) -> float | None:
    """Parse a length of time; return ``None`` if it is not one, or longer than a century."""
    found = _AGE.fullmatch(str(text).strip())
    days = float(found[1]) * _DAYS[found[2]] if found else None
    return days if days is not None and days <= 36525 else None


def about_destination(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a destination to a command, and call it with the archive."""

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
        from airflow_provider_vocalsep.audit.entries import Archive
        from airflow_provider_vocalsep.storage import clients

        try:
            store = clients.store_from_shell(endpoint_url=endpoint_url, profile=profile)
            command(Archive.open(store, address, ledger), **options)
        except VocalSepError as e:
            fail(str(e))
        except KeyboardInterrupt:
            click.echo("Stopped. Run it again at any time; it starts from the beginning.", err=True)
            sys.exit(INTERRUPTED)

    return with_archive


def fail(message: str) -> NoReturn:
    """Print an error and end the command."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(FAILURE)


def print_unreadable(messages: list[str]) -> None:
    """Print on standard error what could not be read."""
    for message in messages:
        click.echo(f"Not readable: {message}", err=True)


def make_consoles() -> tuple[Console, Console]:
    """Return the console for the output, and the one for progress and notes."""
    from rich.console import Console

    return Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def progress(label: str, *, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """
    Show a progress bar, on a terminal only.

    :param total: How many objects there are; ``None`` when that is not known.
    :return: Called with how many more are done.
    """
    _, notes = make_consoles()
    with _make_bar(notes) as bar:
        task = bar.add_task(label, total=total)

        def advance(more: float) -> None:
            bar.advance(task, more)

        yield advance


def _make_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def describe_empty(archive: Archive) -> str:
    """Return the message for a destination without a ledger and run reports."""
    return (
        f"No vocalsep ledger or run reports found at {archive.destination.uri} "
        f"(ledger: {archive.ledger.uri}/). "
        "Give the destination= of your DAGs, and --ledger if they set ledger=."
    )
