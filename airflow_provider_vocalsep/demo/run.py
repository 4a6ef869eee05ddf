"""The main job end to end, on this machine, with nothing pretended but the vendor's address."""

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
from airflow_provider_vocalsep.demo.display import Display, stems_table
from airflow_provider_vocalsep.demo.processes import ServiceError
from airflow_provider_vocalsep.demo.report import Books, build_report, catalogue_file, landed_manifests
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service
from airflow_provider_vocalsep.demo.seaweed import SeaweedServer, running_seaweed
from airflow_provider_vocalsep.demo.secret import kept_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from airflow_provider_vocalsep.sandbox.server import RunningSandbox

DAG_ID = "separate_catalogue"
BUCKET = "stems"
CATALOGUE_KEY = "catalogue.csv"
PREFIX = "catalogue"
DESTINATION = f"s3://{BUCKET}/{PREFIX}"

#: Seconds between two status reads, for callbacks that do not come. The sandbox takes seconds where a vendor takes minutes.
POLL_INTERVAL = 10

#: Seconds that the DAG run may take.
RUN_TIMEOUT = 900


@dataclass(frozen=True)
class Demo:
    """
    One run of the demo.

    :param home: Folder of all its data.
    :param separation_type: What each track is separated into.
    :param console: Where it shows what it does.
    :param stay: Called when all is done and everything still runs.
    """

    home: Path
    separation_type: str
    console: Console
    stay: Callable[[], None]

    def run(self) -> bool:
        """
        Start everything, run the DAG over the sandbox's catalogue, report, and stop everything.

        :return: Whether every track landed.
        :raises ServiceError: if a server does not come up.
        """
        started = time.monotonic()
        display = Display(self.console, started)
        self.home.mkdir(parents=True, exist_ok=True)
        logs = self.home / "logs"
        with _only_one(self.home), ExitStack() as running:
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
                callback_secret=kept_secret(self.home / "sandbox" / "callback-secret"),
            )
            airflow.api.put_connections({"vocalsep_default": vendor})
            airflow.wait_for_dags([DAG_ID])
            display.say(f"Airflow at {airflow.url}")
            report = self._separate(display, sandbox, seaweed, airflow, started)
            (self.home / "report.json").write_text(json.dumps(report, indent=2) + "\n")
            done: bool = report["dag_run_state"] == "success" and report["landed"] == report["tracks"]
            self._tell(report, airflow, done)
            self.stay()
        return done

    def _separate(
        self,
        display: Display,
        sandbox: RunningSandbox,
        seaweed: SeaweedServer,
        airflow: AirflowStack,
        started: float,
    ) -> dict[str, Any]:
        songs = sandbox.catalogue()
        client = seaweed.client()
        client.put_object(Bucket=BUCKET, Key=CATALOGUE_KEY, Body=catalogue_file(songs))
        before = Books.read(sandbox.books())
        run_id = airflow.api.trigger(
            DAG_ID,
            {
                "catalogue": f"s3://{BUCKET}/{CATALOGUE_KEY}",
                "destination": DESTINATION,
                "separation_type": self.separation_type,
                "poll_interval": POLL_INTERVAL,
            },
        )
        display.say(f"{len(songs)} tracks in s3://{BUCKET}/{CATALOGUE_KEY}; DAG {DAG_ID} started")
        titles = [song["title"] for song in songs]

        def watch() -> None:
            instances = airflow.api.task_instances(DAG_ID, run_id, "separate")
            display.update({titles[ti["map_index"]]: ti["state"] for ti in instances if ti["map_index"] >= 0})

        with display.tracks(titles):
            state = airflow.api.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT, watch=watch)
            watch()
        if state != "success":
            self._show_failures(airflow, run_id)
        return build_report(
            state=state,
            tracks=[song["key"] for song in songs],
            manifests=landed_manifests(client, BUCKET, PREFIX, self.separation_type),
            books=Books.read(sandbox.books()) - before,
            seconds=time.monotonic() - started,
            bucket=BUCKET,
        )

    def _show_failures(self, airflow: AirflowStack, run_id: str) -> None:
        for instance in airflow.api.task_instances(DAG_ID, run_id):
            if instance["state"] == "failed":
                log = airflow.api.log(
                    DAG_ID,
                    run_id,
                    instance["task_id"],
                    try_number=instance["try_number"],
                    map_index=instance["map_index"],
                )
                name = instance["rendered_map_index"] or instance["task_id"]
                self.console.rule(f"{name} failed, the end of its log", style="red")
                self.console.print("\n".join(log.splitlines()[-15:]), markup=False, highlight=False)

    def _tell(self, report: dict[str, Any], airflow: AirflowStack, done: bool) -> None:
        show = self.console.print
        show(stems_table(report["items"], DESTINATION))
        show(
            f"{'[bold green]Done' if done else '[bold red]Not done'}[/]: {report['landed']} of {report['tracks']} "
            f"tracks landed as {report['stems']} stems after {report['seconds']} s, "
            f"{report['submits']} submits, {report['credits_charged']:g} credits.",
            highlight=False,
        )
        if done and not report["submits"]:
            show("Everything had landed before: nothing was submitted and nothing was paid again.")
        show(f"Report: {self.home / 'report.json'}", highlight=False, soft_wrap=True)
        show(
            f"Airflow: {airflow.url}/dags/{DAG_ID}  (user [bold]{airflow.username}[/], "
            f"password [bold]{airflow.password}[/])",
            highlight=False,
            soft_wrap=True,
        )


def dags_folder() -> Path:
    """
    Find the DAG files: of the checkout that we are in, else those that were installed with the package.

    :raises ServiceError: if there are none.
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
def _only_one(home: Path) -> Iterator[None]:
    """Hold the folder: two demos in one would stop each other's servers."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"Another demo runs in {home}: stop it with Ctrl-C where it runs, or give --home."
            ) from None
        yield
