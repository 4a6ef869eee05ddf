"""One run of ``vocalsep demo``: starts the servers, runs the DAG, reports, and stops the servers."""

from __future__ import annotations

import fcntl
import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import airflow_provider_vocalsep
from airflow_provider_vocalsep.demo.airflow_stack import AirflowStack, running_airflow
from airflow_provider_vocalsep.demo.display import Display
from airflow_provider_vocalsep.demo.processes import ServiceError
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service
from airflow_provider_vocalsep.demo.seaweed import running_seaweed
from airflow_provider_vocalsep.demo.secret import load_or_create_secret
from airflow_provider_vocalsep.demo.songs_run import BUCKET, DAG_ID, SongsRun, all_landed, show_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


@dataclass(frozen=True)
class Demo:
    """
    One run of the demo.

    :param home: Folder of all its data.
    :param stay: Called after the report, while the servers still run.
    """

    home: Path
    separation_type: str
    console: Console
    stay: Callable[[], None]

    def run(self) -> bool:
        """
        Run the DAG over the sandbox's catalogue, and return whether every track landed.

        :raises ServiceError: a server does not start.
        """
        started = time.monotonic()
        display = Display(self.console, started)
        self.home.mkdir(parents=True, exist_ok=True)
        logs = self.home / "logs"
        with _lock_home(self.home), ExitStack() as running:
            seaweed = running.enter_context(
                running_seaweed(self.home / "s3", [BUCKET], log_path=logs / "seaweed.log")
            )
            display.say(f"S3 server at {seaweed.endpoint_url}")
            sandbox = running.enter_context(
                sandbox_service(self.home / "sandbox", log_path=logs / "sandbox.log")
            )
            display.say(f"Sandbox, the local vendor, at {sandbox.url}")
            display.say("Starting Airflow ...")
            airflow = running.enter_context(
                running_airflow(
                    self.home / "airflow",
                    dags_folders=[dags_folder()],
                    connections={"aws_default": seaweed.connection},
                    log_dir=logs,
                )
            )
            vendor = sandbox_connection(
                sandbox,
                callback_base_url=airflow.url,
                callback_secret=load_or_create_secret(self.home / "sandbox" / "callback-secret"),
            )
            airflow.api.put_connections({"vocalsep_default": vendor})
            airflow.wait_for_dags([DAG_ID])
            display.say(f"Airflow at {airflow.url}")
            songs = SongsRun(airflow.api, sandbox, seaweed.store(), self.console, display)
            report = songs.separate(self.separation_type, started)
            (self.home / "report.json").write_text(json.dumps(report, indent=2) + "\n")
            self._show(report, airflow)
            self.stay()
        return all_landed(report)

    def _show(self, report: dict[str, Any], airflow: AirflowStack) -> None:
        show_report(self.console, report)
        self.console.print(f"Report: {self.home / 'report.json'}", highlight=False, soft_wrap=True)
        self.console.print(
            f"Airflow: {airflow.url}/dags/{DAG_ID}  (user [bold]{airflow.username}[/], "
            f"password [bold]{airflow.password}[/])",
            highlight=False,
            soft_wrap=True,
        )


def dags_folder() -> Path:
    """
    Return the folder of the DAG files: the checkout's, or else the installed package's.

    :raises ServiceError: neither folder has the demo's DAG.
    """
    package = Path(airflow_provider_vocalsep.__path__[0])
    candidates = (package.parent / "dags", package / "example_dags")
    for folder in candidates:
        if (folder / f"{DAG_ID}.py").exists():
            return folder
    raise ServiceError(
        f"{DAG_ID}.py is in neither of {', '.join(map(str, candidates))}: reinstall the package."
    )


@contextmanager
def _lock_home(home: Path) -> Iterator[None]:
    """Lock the folder while the block runs: two demos in one folder would stop each other's servers."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"Another demo runs in {home}: stop it with Ctrl-C in its terminal, or pass another --home."
            ) from None
        yield
