"""
Separates 2,000 tracks while tasks and the triggerer are killed: every track lands and is paid once.

    make bench-kills                             # minutes
    make bench-kills ARGS="--tracks 400 --every 5"

A second run over the same catalogue pays nothing, a third with 50 new tracks pays 50.
"""

from __future__ import annotations

import random
import secrets
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil
from rich.console import Console
from stack import Stack, running_stack

from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service

if TYPE_CHECKING:
    from airflow_provider_vocalsep.sandbox.server import RunningSandbox

console = Console()
DESTINATION = "s3://stems/chaos"


class Killer:
    """
    Kills a task process or the triggerer at regular intervals.

    :param every: Seconds between two kills.
    """

    def __init__(self, stack: Stack, every: float) -> None:
        self.stack = stack
        self.every = every
        self.kills = {"worker": 0, "triggerer": 0}
        self._next = time.monotonic() + every
        self._chance = random.Random(1)

    def __call__(self) -> None:
        """Kill one process, if the interval is over."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every
        triggerer = self.stack.airflow.services["triggerer"]
        if self._chance.random() < 0.25:
            triggerer.kill()
            triggerer.start()
            self.kills["triggerer"] += 1
            return
        # A task's process is a child of its supervisor, which is a child of LocalExecutor's worker.
        scheduler = psutil.Process(self.stack.airflow.services["scheduler"].process.pid)
        with suppress(psutil.NoSuchProcess):
            workers = [
                child for child in scheduler.children() if "LocalExecutor" in " ".join(child.cmdline())
            ]
            tasks = [task for worker in workers for task in worker.children(recursive=True)]
            if tasks:
                self._chance.choice(tasks).send_signal(signal.SIGKILL)
                self.kills["worker"] += 1


def run(
    stack: Stack, sandbox: RunningSandbox, tracks: int, start: int = 0, killer: Killer | None = None
) -> int:
    """Separate tracks, and return the number of charges."""
    before, began = int(sandbox.totals()["charges"]), time.monotonic()
    conf = {
        "tracks": tracks,
        "start": start,
        "chunk_size": 100,
        "destination": DESTINATION,
        "poll_interval": 10,
    }
    run_id = stack.airflow.api.trigger("batch", conf)
    state = stack.airflow.api.wait_for_run(
        "batch", run_id, timeout=3600, every=0.5, watch=killer or (lambda: None)
    )
    charges = int(sandbox.totals()["charges"]) - before
    kills = (
        f", {killer.kills['worker']} kills of workers, {killer.kills['triggerer']} of the triggerer"
        if killer
        else ""
    )
    console.print(
        f"{tracks} tracks: {state} after {time.monotonic() - began:.0f} s, {charges} submits{kills}",
        highlight=False,
    )
    if state != "success":
        raise SystemExit("The DAG run failed.")
    return charges


@click.command(context_settings={"show_default": True})
@click.option("--tracks", default=2000, help="Tracks of the catalogue.")
@click.option("--every", default=5.0, help="Seconds between two kills.")
def main(tracks: int, every: float) -> None:
    """Kill workers and the triggerer while a catalogue is separated."""
    options = ["--tiny-stems", "--submit-rate", "1000/1s", "--credits", "100000000", "--task-seconds", "5"]
    heartbeat = {"scheduler": {"task_instance_heartbeat_timeout": "20"}}
    with (
        tempfile.TemporaryDirectory(prefix="vocalsep-chaos-") as folder,
        running_stack(Path(folder), dags=["batch"], options=heartbeat) as stack,
        sandbox_service(Path(folder) / "sandbox", port=None, options=options) as sandbox,
    ):
        vendor = sandbox_connection(
            sandbox, callback_base_url=stack.airflow.url, callback_secret=secrets.token_hex(32)
        )
        vendor["extra"]["submit_rate"] = "1000/1s"
        stack.airflow.api.put_connections({"vocalsep_default": vendor})
        first = run(stack, sandbox, tracks, killer=Killer(stack, every))
        pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket="stems", Prefix="chaos/track-")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        landed = sum(key.endswith("/manifest.json") for key in keys)
        again = run(stack, sandbox, tracks)
        more = run(stack, sandbox, tracks, start=50)
    console.print(
        f"{landed} of {tracks} landed with {len(keys) - landed} stems; {first - tracks} paid twice."
    )
    if (landed, len(keys), first, again, more) != (tracks, 3 * tracks, tracks, 0, 50):
        raise SystemExit("The numbers of landed tracks, stems or charges are wrong.")


if __name__ == "__main__":
    main()
