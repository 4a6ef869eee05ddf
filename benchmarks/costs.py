"""
What a track costs: the chain of general operators, one task a track, and batches, on the same Airflow and sandbox.

    make bench                                            # about 12 minutes
    make bench ARGS="--peer 8 --single 8 --batch 200 --window 0"

CPU seconds are those of all Airflow processes, ended task processes included; the share that this Airflow takes while idle
is measured first and taken off. The chain is HttpOperator (submit), HttpSensor (wait) and HttpToS3Operator (one a stem),
mapped; the vendor takes two seconds, so that its sensor, which holds a worker, looks two or three times only.

Then the vendor's window of 20 submits in 10 seconds: which share of it one batch uses, and eight at once.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from stack import Stack, running_stack, settled

from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service

console = Console()

#: Accepted submits a second of the vendors' documented window, 20 in 10 seconds.
WINDOW = 2.0


@dataclass
class Cost:
    """
    What a run took.

    :param tracks: Tracks that landed.
    :param cpu_per_track: CPU seconds of all Airflow processes per track, without those of an idle Airflow.
    :param cpu_per_track_gross: The same with them.
    :param wall: Seconds.
    :param slot_seconds_per_track: Seconds for which a worker's place was held.
    :param task_starts_per_track: Task processes, resumes included.
    :param reads_per_track: Status reads.
    """

    tracks: int
    cpu_per_track: float
    cpu_per_track_gross: float
    wall: float
    slot_seconds_per_track: float
    task_starts_per_track: float
    reads_per_track: float


class Bench:
    """Runs catalogues."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.idle = settled(stack, 20)
        self.runs = 0

    def run(
        self, dag_id: str, tracks: int, *options: str, chunk_size: int = 200
    ) -> tuple[Cost, dict[str, Any]]:
        """Separate so many tracks by a DAG, with a vendor of their own."""
        self.runs += 1
        name = f"{dag_id}-{self.runs}"
        quick = ["--tiny-stems", "--credits", "100000000", "--task-seconds", "2", *options]
        with sandbox_service(self.folder / name, port=None, options=quick) as sandbox:
            vendor = sandbox_connection(sandbox)
            if "--submit-rate" in options:
                vendor["extra"]["submit_rate"] = options[options.index("--submit-rate") + 1]
            http = {
                "conn_type": "http",
                "host": sandbox.url,
                "extra": {"Authorization": f"Bearer {sandbox.api_key}"},
            }
            # A name of its own: the triggerer keeps what it resolved for five minutes.
            self.stack.airflow.api.put_connections({name: vendor, "vendor_http": http})
            conf = {
                "tracks": tracks,
                "chunk_size": chunk_size,
                "destination": f"s3://stems/{name}",
                "poll_interval": 5,
                "conn_id": name,
            }
            before, began = self.stack.cpu_seconds(), time.monotonic()
            run_id = self.stack.airflow.api.trigger(dag_id, conf)
            with console.status(f"{name}: {tracks} tracks"):
                state = self.stack.airflow.api.wait_for_run(dag_id, run_id, timeout=3600, every=1)
            wall = time.monotonic() - began
            cpu = self.stack.cpu_seconds() - before
            books = sandbox.books()
        if state != "success":
            raise SystemExit(f"{name} ended as {state}: nothing is measured.")
        held, starts = self.stack.ask(
            "SELECT sum(extract(epoch FROM l2.dttm - l1.dttm)), count(*) FROM log l1 JOIN LATERAL ("
            " SELECT min(dttm) AS dttm FROM log WHERE run_id = l1.run_id AND task_id = l1.task_id AND map_index ="
            " l1.map_index AND event IN ('success', 'deferred', 'failed', 'up_for_retry', 'running') AND dttm > l1.dttm"
            ") l2 ON true WHERE l1.run_id = %s AND l1.event = 'running'",
            run_id,
        )
        cost = Cost(
            tracks,
            round((cpu - self.idle * wall) / tracks, 4),
            round(cpu / tracks, 4),
            round(wall, 1),
            round(float(held or 0) / tracks, 3),
            round(starts / tracks, 3),
            round(books["polls"] / tracks, 2),
        )
        return cost, books

    def window_share(self, tracks: int, batches: int) -> float:
        """Return the share of the vendor's window that so many batches at once use."""
        _, books = self.run("batch", tracks, "--submit-rate", "20/10s", chunk_size=-(-tracks // batches))
        times = sorted(task["created_ms"] / 1000 for task in books["tasks"])
        return round((len(times) - 1) / (times[-1] - times[0]) / WINDOW, 3)


@click.command(context_settings={"show_default": True})
@click.option("--peer", default=24, help="Tracks of the chain.")
@click.option("--single", default=48, help="Tracks of VocalSeparationOperator.")
@click.option("--batch", default=1000, help="Tracks of VocalSeparationBatchOperator, 200 in a task.")
@click.option("--window", default=240, help="Tracks of each run against the vendor's window; 0 for none.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path(".bench/report.json"))
def main(peer: int, single: int, batch: int, window: int, json_path: Path) -> None:
    """Measure what tracks cost."""
    fast = ("--submit-rate", "1000/1s")
    with (
        tempfile.TemporaryDirectory(prefix="vocalsep-bench-") as folder,
        running_stack(Path(folder), dags=["peer", "single", "batch"]) as stack,
    ):
        bench = Bench(stack, Path(folder))
        costs = {
            "peer": bench.run("peer", peer, *fast)[0],
            "single": bench.run("single", single, *fast)[0],
            "batch": bench.run("batch", batch, *fast)[0],
        }
        share = {}
        if window:
            share = {"one": bench.window_share(window, 1), "eight": bench.window_share(window, 8)}
    cpu = {name: cost.cpu_per_track for name, cost in costs.items()}
    report = {
        "cpu_seconds_per_track": cpu,
        "ratio_single": round(cpu["peer"] / cpu["single"], 1),
        "ratio_batch": round(cpu["peer"] / cpu["batch"], 1),
        "submit_window_share": share,
        "costs": {name: asdict(cost) for name, cost in costs.items()},
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(report, indent=2) + "\n")
    show(costs, report)


def show(costs: dict[str, Cost], report: dict[str, Any]) -> None:
    table = Table("per track", *costs, title="What a track costs")
    for label, field in (
        ("tracks", "tracks"),
        ("CPU seconds", "cpu_per_track"),
        ("CPU seconds, an idle Airflow's included", "cpu_per_track_gross"),
        ("worker-slot seconds", "slot_seconds_per_track"),
        ("task starts", "task_starts_per_track"),
        ("status reads", "reads_per_track"),
        ("wall seconds of the run", "wall"),
    ):
        table.add_row(label, *(str(getattr(cost, field)) for cost in costs.values()))
    console.print(table)
    console.print(
        f"Less CPU than the chain: single {report['ratio_single']} x, batch {report['ratio_batch']} x."
    )
    for name, share in report["submit_window_share"].items():
        console.print(f"Share of the submit window, {name}: {share:.1%}")


if __name__ == "__main__":
    main()
