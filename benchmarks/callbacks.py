"""
Measures how soon a callback resumes its task, and how many callbacks the receiver handles.

    make bench-callbacks                                    # 300 tracks, 10,000 deliveries: about 15 minutes
    make bench-callbacks ARGS="--tracks 20 --task-seconds 40 --without 10 --deliveries 1000"

Airflow (PostgreSQL, LocalExecutor with 8 processes), sandbox and SeaweedFS run on this machine. All tracks
are deferred before the vendor ends the first one; then it ends one per second. "Wake" is the time from the
end of a vendor task in the sandbox to the start of ``execute_complete``. Then follows the burst: deliveries
for the same task instances, a third each valid, duplicate and forged, from 64 connections, and as many
requests to an empty route.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from burst import Burst, Delivery, send
from rich.console import Console
from rich.table import Table
from stack import Stack, running_stack

from airflow_provider_vocalsep.callbacks.token import CallbackClaims
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service

HERE = Path(__file__).parent
CONNECTIONS = 64

#: Seconds between the status reads of the measured run. Deferring hundreds of tracks takes minutes here,
#: during which the first ones wait, longer than with any vendor. With this interval, no status read falls
#: into that time.
SAFETY_POLL = 900

console = Console()


@dataclass(frozen=True)
class WakeTimes:
    """
    Results of one run.

    :param waiting: Task instances that were deferred when the vendor ended the first one.
    :param wakes: Seconds from the vendor's end to ``execute_complete`` of each track, sorted.
    :param reads_per_track: Status reads that the vendor counted.
    """

    run_id: str
    waiting: int
    wakes: list[float]
    reads_per_track: float

    def quantile(self, share: float) -> float:
        return round(self.wakes[min(int(len(self.wakes) * share), len(self.wakes) - 1)], 2)


class Bench:
    """
    Runs the measurements.

    :param folder: Folder of the sandboxes' books.
    :param times: Folder in which tasks record when they resume.
    :param secret: Secret that signs callbacks.
    """

    def __init__(self, stack: Stack, folder: Path, times: Path, secret: str) -> None:
        self.stack = stack
        self.airflow = stack.airflow
        self.folder = folder
        self.times = times
        self.secret = secret

    def separate(self, name: str, tracks: int, task_seconds: float, *, callbacks: bool) -> WakeTimes:
        """Separate tracks, of which the vendor ends one per second."""
        options = ["--tiny-stems", "--submit-rate", "1000/1s", "--credits", "1000000", "--finish-rate", "1"]
        options += ["--task-seconds", str(task_seconds)]
        with sandbox_service(self.folder / name, port=None, options=options) as sandbox:
            receiver = (
                {"callback_base_url": self.airflow.url, "callback_secret": self.secret} if callbacks else {}
            )
            self.airflow.api.put_connections({name: sandbox_connection(sandbox, **receiver)})
            conf = {
                "tracks": tracks,
                "conn_id": name,
                "destination": f"s3://stems/{name}",
                "poll_interval": SAFETY_POLL if callbacks else None,
            }
            run_id = self.airflow.api.trigger("woken", conf)
            deferred: list[tuple[float, int]] = []
            with console.status(f"{name}: starting") as status:

                def watch() -> None:
                    deferred.append((time.time(), self.count_deferred(run_id)))
                    status.update(f"{name}: {deferred[-1][1]} of {tracks} tracks deferred")

                timeout = task_seconds + 10 * tracks + 120
                state = self.airflow.api.wait_for_run("woken", run_id, timeout=timeout, watch=watch, every=2)
            if state != "success":
                raise SystemExit(f"The DAG run ended as {state}: no measurement.")
            tasks = sandbox.books()["tasks"]
        ends = {task["vendor_task_id"]: task["completed_ms"] / 1000 for task in tasks}
        return WakeTimes(
            run_id,
            max([count for at, count in deferred if at <= min(ends.values())], default=0),
            sorted(self._resumed_at(task_id) - end for task_id, end in ends.items()),
            round(sum(task["polls"] for task in tasks) / len(tasks), 3),
        )

    def _resumed_at(self, vendor_task_id: str) -> float:
        """Return the time at which the task was first resumed."""
        return float((self.times / vendor_task_id).read_text().split()[0])

    def count_deferred(self, run_id: str) -> int:
        (count,) = self.stack.query_row(
            "SELECT count(*) FROM task_instance WHERE run_id = %s AND state = 'deferred'", run_id
        )
        return int(count)

    def heartbeat_age(self) -> float:
        """Return the seconds since the scheduler's last heartbeat."""
        (age,) = self.stack.query_row(
            "SELECT extract(epoch FROM now() - max(latest_heartbeat)) FROM job"
            " WHERE job_type = 'SchedulerJob'"
        )
        return float(age)

    def burst(self, run_id: str, tracks: int, deliveries: int) -> dict[str, Any]:
        """Send a burst to the receiver, and as many requests to the empty route."""
        instances = [
            CallbackClaims("called_back", "woken", run_id, "separate", n, "", 0) for n in range(tracks)
        ]
        burst = Burst(self.airflow.url, instances, self.secret, deliveries)
        ages: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1):
                ages.append(self.heartbeat_age())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            sent = send(burst.requests, CONNECTIONS)
            empty_route = f"{self.airflow.url}/empty/"
            empty = send([Delivery(empty_route, each.body, 200) for each in burst.requests], CONNECTIONS)
        finally:
            over.set()
            watcher.join()
        counts = burst.read_recorded(self.stack.database)
        twice = sum(count > 1 for count in counts.values())
        if twice != burst.duplicates or sent.wrong:
            raise SystemExit(f"{twice} counted twice, not {burst.duplicates}; wrong answers: {sent.wrong}")
        return {
            "deliveries": deliveries,
            "connections": CONNECTIONS,
            "valid": burst.valid,
            "remembered": len(counts),
            "lost": burst.valid - len(counts),
            "p99": round(sent.p99, 3),
            "deliveries_per_second": round(sent.rate, 1),
            "empty_route_per_second": round(empty.rate, 1),
            "ratio_to_empty_route": round(sent.rate / empty.rate, 3),
            "scheduler_heartbeat_age_max": round(max(ages), 1),
        }


@click.command(context_settings={"show_default": True})
@click.option("--tracks", default=300, help="Tracks that wait at the same time with callbacks.")
@click.option(
    "--task-seconds",
    default=330,
    help="Seconds until the vendor ends the first task. By then, all tracks must be deferred.",
)
@click.option("--without", default=30, help="Tracks of the comparison without callbacks.")
@click.option("--deliveries", default=10_000, help="Deliveries of the burst.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path(".bench/callbacks.json"))
def main(tracks: int, task_seconds: int, without: int, deliveries: int, json_path: Path) -> None:
    """Measure callbacks."""
    with tempfile.TemporaryDirectory(prefix="vocalsep-bench-") as folder:
        times = Path(folder) / "times"
        times.mkdir()
        with running_stack(
            Path(folder),
            dags=["woken"],
            options={"core": {"plugins_folder": str(HERE / "plugins")}},
            env={"VOCALSEP_BENCH_TIMES": str(times)},
        ) as stack:
            bench = Bench(stack, Path(folder), times, secrets.token_hex(32))
            polled = bench.separate(
                "polled", without, task_seconds * max(without, 30) / max(tracks, 30), callbacks=False
            )
            called = bench.separate("called_back", tracks, task_seconds, callbacks=True)
            burst = bench.burst(called.run_id, tracks, deliveries)
    report = {
        "waiting": called.waiting,
        "wake_p50": called.quantile(0.5),
        "wake_p99": called.quantile(0.99),
        "status_reads_per_track": called.reads_per_track,
        "without_callbacks": {
            "waiting": polled.waiting,
            "wake_p50": polled.quantile(0.5),
            "wake_p99": polled.quantile(0.99),
            "status_reads_per_track": polled.reads_per_track,
        },
        "burst": burst,
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    if called.waiting < tracks:
        raise SystemExit(
            f"Only {called.waiting} of {tracks} tracks were deferred in time: increase --task-seconds."
        )


def show(report: dict[str, Any]) -> None:
    wake = Table("", "with callbacks", "without", title="From the vendor's end to execute_complete")
    without = report["without_callbacks"]
    for label, key, unit in (
        ("tracks waiting", "waiting", ""),
        ("p50", "wake_p50", " s"),
        ("p99", "wake_p99", " s"),
        ("status reads per track", "status_reads_per_track", ""),
    ):
        wake.add_row(label, f"{report[key]}{unit}", f"{without[key]}{unit}")
    burst = Table("", "", title=f"Burst from {CONNECTIONS} connections", show_header=False)
    for key, value in report["burst"].items():
        burst.add_row(key.replace("_", " "), str(value))
    console.print(wake, burst)


if __name__ == "__main__":
    main()
