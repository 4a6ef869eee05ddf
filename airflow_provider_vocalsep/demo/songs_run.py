"""One DAG run over the sandbox's songs, in a stack that runs already."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.display import build_stems_table
from airflow_provider_vocalsep.demo.report import Totals, build_report, catalogue_file, read_manifests
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_vocalsep.demo.airflow_api import AirflowApi
    from airflow_provider_vocalsep.demo.display import Display
    from airflow_provider_vocalsep.sandbox.server import RunningSandbox
    from airflow_provider_vocalsep.storage.store import ObjectStore

DAG_ID = "separate_catalogue"
BUCKET = "stems"
CATALOGUE_KEY = "catalogue.csv"
DESTINATION = Location(BUCKET, "catalogue")

#: Seconds between status reads of a track whose callback is missing. Far below a real vendor's minutes,
#: because the sandbox finishes within seconds.
POLL_INTERVAL = 10

#: Seconds that the DAG run may take.
RUN_TIMEOUT = 900


@dataclass(frozen=True)
class SongsRun:
    """
    One run of the DAG over the sandbox's catalogue.

    :param console: Shows the logs of failed tasks.
    :param display: Shows the state of each track.
    """

    airflow: AirflowApi
    sandbox: RunningSandbox
    store: ObjectStore
    console: Console
    display: Display

    def separate(self, separation_type: str, started: float) -> dict[str, Any]:
        """
        Upload the catalogue, run the DAG, and return the report.

        :param started: ``time.monotonic()`` at the start of the command.
        """
        songs = self.sandbox.catalogue()
        self.store.put(BUCKET, CATALOGUE_KEY, catalogue_file(songs), content_type="text/csv")
        before = Totals.read(self.sandbox.books())
        run_id = self.airflow.trigger(
            DAG_ID,
            {
                "catalogue": f"s3://{BUCKET}/{CATALOGUE_KEY}",
                "destination": DESTINATION.uri,
                "separation_type": separation_type,
                "poll_interval": POLL_INTERVAL,
            },
        )
        self.display.say(f"{len(songs)} tracks in s3://{BUCKET}/{CATALOGUE_KEY}; DAG {DAG_ID} started")
        titles = [song["title"] for song in songs]

        def watch() -> None:
            instances = self.airflow.task_instances(DAG_ID, run_id, "separate")
            self.display.update(
                {titles[ti["map_index"]]: ti["state"] for ti in instances if ti["map_index"] >= 0}
            )

        with self.display.tracks(titles):
            state = self.airflow.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT, watch=watch)
            watch()
        if state != "success":
            self._show_failures(run_id)
        return build_report(
            state=state,
            tracks=[song["key"] for song in songs],
            manifests=read_manifests(self.store, DESTINATION, separation_type),
            books=Totals.read(self.sandbox.books()) - before,
            seconds=time.monotonic() - started,
            bucket=BUCKET,
        )

    def _show_failures(self, run_id: str) -> None:
        for instance in self.airflow.task_instances(DAG_ID, run_id):
            if instance["state"] == "failed":
                log = self.airflow.log(
                    DAG_ID,
                    run_id,
                    instance["task_id"],
                    try_number=instance["try_number"],
                    map_index=instance["map_index"],
                )
                name = instance["rendered_map_index"] or instance["task_id"]
                self.console.rule(f"End of the log of {name}, which failed", style="red")
                self.console.print("\n".join(log.splitlines()[-15:]), markup=False, highlight=False)


def all_landed(report: dict[str, Any]) -> bool:
    """Return whether every track of a report landed."""
    return bool(report["dag_run_state"] == "success" and report["landed"] == report["tracks"])


def show_report(console: Console, report: dict[str, Any]) -> None:
    """Show the landed stems and what they cost."""
    done = all_landed(report)
    console.print(build_stems_table(report["items"], DESTINATION.uri))
    console.print(
        f"{'[bold green]Done' if done else '[bold red]Not done'}[/]: "
        f"{report['landed']} of {report['tracks']} tracks landed as {report['stems']} stems after "
        f"{report['seconds']} s, {report['submits']} submits, {report['credits_charged']:g} credits.",
        highlight=False,
    )
    if done and not report["submits"]:
        console.print("All tracks had landed before: nothing was submitted and nothing was paid again.")
