"""Runs catalogues through one Airflow, each with its own vendor, and measures their cost."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from stack import Stack, measure_idle_cpu

from airflow_provider_vocalsep.demo.sandbox import sandbox_connection, sandbox_service

if TYPE_CHECKING:
    from pathlib import Path

console = Console()

#: Accepted submits a second of the vendors' documented window, 20 in 10 seconds.
WINDOW = 2.0

KIBIBYTE = 1024


@dataclass
class Cost:
    """
    Cost of a run.

    :param cpu_per_track: CPU seconds of all Airflow processes, less those of the idle Airflow.
    :param cpu_per_track_gross: CPU seconds including those of the idle Airflow.
    :param wall: Wall-clock seconds.
    :param slot_seconds_per_track: Seconds for which a worker slot was held.
    :param task_starts_per_track: Task processes, including those that resume a task.
    :param reads_per_track: Status reads.
    :param triggerer_mib: Peak memory of the triggerer above that before the run.
    :param workers_mib: Peak memory of the scheduler and all task processes above that before the run.
    """

    tracks: int
    cpu_per_track: float
    cpu_per_track_gross: float
    wall: float
    slot_seconds_per_track: float
    task_starts_per_track: float
    reads_per_track: float
    triggerer_mib: float
    workers_mib: float


class PeakMemory:
    """Peak memory of components above that at the start, sampled at intervals."""

    #: Seconds between samples, each of which reads the page tables of all processes.
    EVERY = 4.0

    def __init__(self, stack: Stack, *components: str) -> None:
        self.stack = stack
        self.before = {name: stack.memory(name) for name in components}
        self.most = dict(self.before)
        self._next = 0.0

    def __call__(self) -> None:
        """Take a sample, if the interval is over."""
        if time.monotonic() < self._next:
            return
        with suppress(psutil.NoSuchProcess):
            for name in self.most:
                self.most[name] = max(self.most[name], self.stack.memory(name))
        self._next = time.monotonic() + self.EVERY

    def above_mib(self, name: str) -> float:
        """Return the peak of a component above its memory at the start, in MiB."""
        return round((self.most[name] - self.before[name]) / KIBIBYTE**2, 1)


class Catalogues:
    """
    Runs catalogues.

    :param folder: Folder of the sandboxes' books.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.idle = measure_idle_cpu(stack, 20)
        self.runs = 0

    def run(
        self,
        dag_id: str,
        tracks: int,
        *,
        submit_rate: str = "1000/1s",
        task_seconds: float = 2,
        poll_interval: float | None = 5,
        chunk_size: int = 200,
        callbacks: bool = False,
    ) -> tuple[Cost, dict[str, Any]]:
        """Separate tracks with a DAG and its own vendor, and return the cost and the vendor's books."""
        self.runs += 1
        name = f"{dag_id}-{self.runs}-{self.folder.name}"
        options = ["--tiny-stems", "--credits", "100000000", "--submit-rate", submit_rate]
        options += ["--task-seconds", str(task_seconds)]
        airflow = self.stack.airflow
        with sandbox_service(self.folder / name, port=None, options=options) as sandbox:
            receiver = (
                {"callback_base_url": airflow.url, "callback_secret": secrets.token_hex(32)}
                if callbacks
                else {}
            )
            vendor = sandbox_connection(sandbox, **receiver)
            vendor["extra"] |= {"submit_rate": submit_rate, "read_rate": "1000/1s"}
            http = {
                "conn_type": "http",
                "host": sandbox.url,
                "extra": {"Authorization": f"Bearer {sandbox.api_key}"},
            }
            # A new name each time: the triggerer caches connections for five minutes.
            airflow.api.put_connections({name: vendor, "vendor_http": http})
            conf = {
                "tracks": tracks,
                "chunk_size": chunk_size,
                "destination": f"s3://stems/{name}",
                "poll_interval": poll_interval,
                "conn_id": name,
            }
            peak = PeakMemory(self.stack, "triggerer", "scheduler")
            before, began = self.stack.cpu_seconds(), time.monotonic()
            run_id = airflow.api.trigger(dag_id, conf)
            state = airflow.api.wait_for_run(dag_id, run_id, timeout=9000, every=1, watch=peak)
            wall = time.monotonic() - began
            cpu = self.stack.cpu_seconds() - before
            books = sandbox.books()
            if state != "success":
                raise SystemExit(
                    f"{name} ended as {state}: no measurement.\n{self._read_failures(dag_id, run_id)}"
                )
        held, starts = self.stack.query_row(
            "SELECT sum(extract(epoch FROM l2.dttm - l1.dttm)), count(*) FROM log l1 JOIN LATERAL ("
            " SELECT min(dttm) AS dttm FROM log"
            " WHERE run_id = l1.run_id AND task_id = l1.task_id AND map_index = l1.map_index"
            " AND event IN ('success', 'deferred', 'failed', 'up_for_retry', 'running') AND dttm > l1.dttm"
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
            peak.above_mib("triggerer"),
            peak.above_mib("scheduler"),
        )
        console.print(f"{dag_id}, {tracks} tracks: {wall:.0f} s, {cost.cpu_per_track} CPU s each")
        return cost, books

    def _read_failures(self, dag_id: str, run_id: str) -> str:
        """Return the ends of the logs of failed task instances."""
        api, found = self.stack.airflow.api, []
        for ti in api.task_instances(dag_id, run_id):
            if ti["state"] == "failed":
                lines = api.log(
                    dag_id, run_id, ti["task_id"], try_number=ti["try_number"], map_index=ti["map_index"]
                ).splitlines()
                found += [f"{ti['task_id']}[{ti['map_index']}], try {ti['try_number']}:", *lines[-40:]]
        return "\n".join(found)

    def window_share(self, tracks: int, batches: int) -> float:
        """Return the share of the vendor's window that concurrent batches use while all of them submit."""
        size = -(-tracks // batches)
        _, books = self.run("batch", tracks, submit_rate="20/10s", chunk_size=size)
        times = defaultdict(list)
        for task in books["tasks"]:
            # The task id of a track is its number, see dags/cost_common.py.
            number = int(task["source"].partition("/")[0], 16)
            times[number // size].append(task["created_ms"] / 1000)
        began, ended = max(map(min, times.values())), min(map(max, times.values()))
        counted = sum(began <= at <= ended for of_batch in times.values() for at in of_batch)
        return round((counted - 1) / (ended - began) / WINDOW, 3)
