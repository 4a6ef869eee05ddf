"""``vocalsep demo``."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.demo.airflow_api import AirflowApiError
from airflow_provider_vocalsep.demo.processes import ServiceError, exit_on_signals
from airflow_provider_vocalsep.demo.run import Demo


@click.command()
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=".demo",
    show_default=True,
    help="Folder of all its data. The next demo there pays nothing for tracks that have landed.",
)
@click.option(
    "--separation-type",
    type=click.Choice([SeparationType.SEPARATE_VOCAL.value, SeparationType.SPLIT_STEM.value]),
    default=SeparationType.SEPARATE_VOCAL.value,
    show_default=True,
    help="Vocals and instrumental, or up to twelve stems.",
)
@click.option(
    "--stay/--no-stay",
    default=None,
    help="Keep everything running until Ctrl-C, to explore. Default: on a terminal, unless CI=true.",
)
def demo(home: Path, separation_type: str, stay: bool | None) -> None:
    """
    Separate a catalogue end to end on this machine.

    Starts the sandbox as the vendor, an S3 server and Airflow, all on loopback and on free ports; uploads a
    catalogue, runs the DAG separate_catalogue on it, prints what landed, and writes HOME/report.json.
    Succeeds only if every track landed.
    """
    console = Console()
    if stay is None:
        stay = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("CI", "").lower() != "true"

    def stand_by() -> None:
        console.print("Everything keeps running. Press Ctrl-C to stop it.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        console.print("Stopping ...")

    try:
        with exit_on_signals():
            done = Demo(home.resolve(), separation_type, console, stand_by if stay else lambda: None).run()
    except (ServiceError, AirflowApiError) as e:
        raise click.ClickException(f"{e}\nLogs are in {home / 'logs'}.") from e
    sys.exit(0 if done else 1)
