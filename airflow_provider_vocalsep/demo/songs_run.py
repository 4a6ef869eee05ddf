"""The sandbox's songs through a stack that runs, wherever it does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.display import stems_table
from airflow_provider_vocalsep.demo.report import Totals, build_report, catalogue_file, landed_manifests

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from rich.console import Console

    from airflow_provider_vocalsep.demo.airflow_api import AirflowApi
    from airflow_provider_vocalsep.demo.display import Display
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
class SongsRun:
    """
    One run of the DAG over the sandbox's catalogue.

    :param airflow: Airflow's REST API.
    :param sandbox: The sandbox.
    :param client: Client of the object storage.
    :param console: Where failures are shown.
    :param display: Where each track's state is shown.
    """

    airflow: AirflowApi
    sandbox: RunningSandbox
    client: S3Client
    console: Console
    display: Display

    def separate(self, separation_type: str, started: float) -> dict[str, Any]:
        """
        Upload the catalogue, run the DAG, and report what landed.

        :param separation_type: What each track is separated into.
        :param started: When all began, ``time.monotonic()``.
        :return: The report, see :func:`~airflow_provider_vocalsep.demo.report.build_report`.
        """
        songs = self.sandbox.catalogue()
        self.client.put_object(Bucket=BUCKET, Key=CATALOGUE_KEY, Body=catalogue_file(songs))
        before = Totals.read(self.sandbox.books())
        run_id = self.airflow.trigger(
            DAG_ID,
            {
                "catalogue": f"s3://{BUCKET}/{CATALOGUE_KEY}",
                "destination": DESTINATION,
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
            manifests=landed_manifests(self.client, BUCKET, PREFIX, separation_type),
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
                self.console.rule(f"{name} failed, the end of its log", style="red")
                self.console.print("\n".join(log.splitlines()[-15:]), markup=False, highlight=False)


def all_landed(report: dict[str, Any]) -> bool:
    """
    Tell whether every track of a report landed.

    :param report: The report.
    """
    return bool(report["dag_run_state"] == "success" and report["landed"] == report["tracks"])


def tell(console: Console, report: dict[str, Any]) -> None:
    """
    Show what landed and what it cost.

    :param console: Where to.
    :param report: The report.
    """
    done = all_landed(report)
    console.print(stems_table(report["items"], DESTINATION))
    console.print(
        f"{'[bold green]Done' if done else '[bold red]Not done'}[/]: {report['landed']} of {report['tracks']} "
        f"tracks landed as {report['stems']} stems after {report['seconds']} s, "
        f"{report['submits']} submits, {report['credits_charged']:g} credits.",
        highlight=False,
    )
    if done and not report["submits"]:
        console.print("Everything had landed before: nothing was submitted and nothing was paid again.")
