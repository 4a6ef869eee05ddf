"""
What a track costs: a chain of general operators, one task a track, and batches, on one machine.

    make bench                  # under half an hour; writes .bench/report.json
    make bench-growth           # an hour and a half: adds the catalogue of 100,000 tracks to that report

CPU seconds are those of all Airflow processes, ended task processes included; the share that this Airflow
takes while idle is measured first and taken off. The chain is HttpOperator (submit), HttpSensor (wait) and
HttpToS3Operator (one a stem), mapped; the vendor takes two seconds, so that its sensor, which holds a worker,
looks two or three times only. It runs on an Airflow that does not import ahead what tasks need (``[vocalsep]
warm_task_processes``), as one without this provider, and once more on one that does.

Then the vendor's window of 20 submits in 10 seconds: which share of it one batch uses, and eight while all of
them submit. Status reads with and without callbacks, of a vendor that takes a minute. The cost of a track as
the catalogue grows. And landing beside a bare download-and-upload loop, with the same parallelism.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from catalogues import KIBIBYTE, Catalogues, Cost, console
from rich.table import Table
from stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

#: Tracks of the growing catalogue; the last takes more than an hour, so ``make bench`` leaves it out.
SIZES = ("1000", "10000", "100000")

#: How the stems of a batch land: files, of which size, at a time.
LANDING = ("--stems", "12", "--megabytes", "100", "--parallel", "4")


@contextmanager
def catalogues(*dags: str, warm: bool = True) -> Iterator[Catalogues]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = {"AIRFLOW__VOCALSEP__WARM_TASK_PROCESSES": str(warm)}
        with running_stack(Path(folder), dags=list(dags), env=env) as stack:
            yield Catalogues(stack, Path(folder))


def costs(peer: int, single: int, batch: int) -> dict[str, Cost]:
    """Measure what a track costs, each way."""
    found = {}
    with catalogues("peer", warm=False) as bench:
        found["peer"], _ = bench.run("peer", peer)
    with catalogues("peer", "single", "batch") as bench:
        found["peer, warm"], _ = bench.run("peer", peer)
        found["single"], _ = bench.run("single", single)
        found["batch"], _ = bench.run("batch", batch)
    return found


def window_share(tracks: int) -> dict[str, float]:
    """Measure the share of the vendor's window that is used."""
    with catalogues("batch") as bench:
        return {"one": bench.window_share(tracks, 1), "eight": bench.window_share(2 * tracks, 8)}


def reads(tracks: int) -> dict[str, float]:
    """Measure status reads, with Airflow's defaults and a vendor that takes a minute."""
    found = {}
    with catalogues("batch") as bench:
        for name, callbacks in (("callbacks_on", True), ("callbacks_off", False)):
            cost, _ = bench.run("batch", tracks, task_seconds=60, poll_interval=None, callbacks=callbacks)
            found[name] = cost.reads_per_track
    return found


def growth(tracks: int) -> Cost:
    """Measure a catalogue; the vendor takes a minute, so that thousands of tracks wait at a time."""
    with catalogues("batch") as bench:
        bench.run("batch", 200)  # whatever an Airflow does once
        return bench.run("batch", tracks, task_seconds=60, poll_interval=30)[0]


def landing() -> dict[str, float]:
    """Measure landing and a bare loop in turn."""
    rates: list[float] = []
    above: list[float] = []
    for _ in range(3):
        command = [sys.executable, str(HERE / "landing_memory.py"), *LANDING, "--bare"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        ours, bare = json.loads(done.stdout.splitlines()[-1])["runs"]
        rates.append(bare["seconds"] / ours["seconds"])
        above.append((ours["peak_bytes"] - ours["idle_bytes"]) / KIBIBYTE**2)
    return {
        "ratio_to_bare_loop": round(statistics.median(rates), 2),
        "memory_mib_above_idle": round(max(above), 1),
    }


def share(cpu: dict[str, float]) -> dict[str, Any]:
    """Compare the ways with the chain."""
    return {
        "cpu_seconds_per_track": cpu,
        "ratio_single": round(cpu["peer"] / cpu["single"], 1),
        "ratio_batch": round(cpu["peer"] / cpu["batch"], 1),
        "ratio_single_warm_peer": round(cpu["peer, warm"] / cpu["single"], 1),
        "ratio_batch_warm_peer": round(cpu["peer, warm"] / cpu["batch"], 1),
    }


@click.command(context_settings={"show_default": True})
@click.option("--peer", default=16, help="Tracks of the chain.")
@click.option("--single", default=48, help="Tracks of VocalSeparationOperator.")
@click.option("--batch", default=1000, help="Tracks of VocalSeparationBatchOperator, 200 in a task.")
@click.option(
    "--window",
    default=240,
    help="Tracks of one batch against the vendor's window; eight at once have twice as many.",
)
@click.option("--sizes", default="1000,10000", help="Tracks of the growing catalogue.")
@click.option("--growth-only", is_flag=True, help="Measure growth only, and add it to an earlier report.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".bench/report.json"))
def main(peer: int, single: int, batch: int, window: int, sizes: str, growth_only: bool, path: Path) -> None:
    """Measure what tracks cost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"growth_cpu_seconds_per_track": dict.fromkeys(SIZES), "runs": {}}
    if growth_only and path.exists():
        report = json.loads(path.read_text())
    runs = {}

    def keep(**found: Any) -> None:
        """Write what is known so far: an hour's figures are not lost by what comes after them."""
        report.update(found)
        report["runs"] |= {name: asdict(cost) for name, cost in runs.items()}
        path.write_text(json.dumps(report, indent=2) + "\n")

    if not growth_only:
        runs = costs(peer, single, batch)
        keep(**share({name: cost.cpu_per_track for name, cost in runs.items()}))
        keep(submit_window_share=window_share(window))
        keep(status_reads_per_track=reads(200))
        keep(landing=landing())
    for size in map(int, sizes.split(",")):
        runs[f"growth {size}"] = cost = growth(size)
        report["growth_cpu_seconds_per_track"][str(size)] = cost.cpu_per_track
        keep(trigger_memory_kib_per_waiting_track=round(cost.triggerer_mib * KIBIBYTE / size, 2))
    show(runs, report)


def show(runs: dict[str, Cost], report: dict[str, Any]) -> None:
    table = Table("per track", *runs, title="What a track costs")
    for label, field in (
        ("tracks", "tracks"),
        ("CPU seconds", "cpu_per_track"),
        ("CPU seconds, an idle Airflow's included", "cpu_per_track_gross"),
        ("worker-slot seconds", "slot_seconds_per_track"),
        ("task starts", "task_starts_per_track"),
        ("status reads", "reads_per_track"),
        ("wall seconds of the run", "wall"),
        ("MiB more in the triggerer, at most", "triggerer_mib"),
        ("MiB more in scheduler and tasks, at most", "workers_mib"),
    ):
        table.add_row(label, *(str(getattr(cost, field)) for cost in runs.values()))
    console.print(table)
    for name, value in report.items():
        if name != "runs":
            console.print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
