"""
Measures the cost of a track: general operators, single operator and batch, on the same machine and sandbox.

    make bench                  # under half an hour; writes .bench/report.json
    make bench-growth           # an hour and a half; adds the catalogue of 100,000 tracks to that report

CPU seconds are those of all Airflow processes, including ended task processes, less those of the idle
Airflow. The general operators are HttpOperator (submit), HttpSensor (wait) and HttpToS3Operator (one per
stem), mapped. The vendor takes two seconds, so that the sensor, which holds a worker, pokes only two or three
times. They run on an Airflow that does not import the provider ahead (``[vocalsep] warm_task_processes``),
like one without this provider, and then on one that does.

Further measures: the share of the vendor's window of 20 submits in 10 seconds that one batch uses, and eight
concurrent ones; status reads with and without callbacks, with a vendor that takes a minute; the cost of a
track in growing catalogues; and landing against a bare download-and-upload loop with the same parallelism.
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

#: Tracks of the growing catalogue. ``make bench`` skips the last, which takes more than an hour.
SIZES = ("1000", "10000", "100000")

#: Stems of the landing benchmark: their number, their size, and how many land in parallel.
LANDING = ("--stems", "12", "--megabytes", "100", "--parallel", "4")


@contextmanager
def running_catalogues(*dags: str, warm: bool = True) -> Iterator[Catalogues]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = {"AIRFLOW__VOCALSEP__WARM_TASK_PROCESSES": str(warm)}
        with running_stack(Path(folder), dags=list(dags), env=env) as stack:
            yield Catalogues(stack, Path(folder))


def measure_costs(peer: int, single: int, batch: int) -> dict[str, Cost]:
    """Measure the cost of a track with general operators, the single operator and batches."""
    found = {}
    with running_catalogues("peer", warm=False) as bench:
        found["peer"], _ = bench.run("peer", peer)
    with running_catalogues("peer", "single", "batch") as bench:
        found["peer, warm"], _ = bench.run("peer", peer)
        found["single"], _ = bench.run("single", single)
        found["batch"], _ = bench.run("batch", batch)
    return found


def measure_window_share(tracks: int) -> dict[str, float]:
    """Measure the used share of the vendor's window."""
    with running_catalogues("batch") as bench:
        return {"one": bench.window_share(tracks, 1), "eight": bench.window_share(2 * tracks, 8)}


def measure_reads(tracks: int) -> dict[str, float]:
    """Measure status reads with the default poll interval and a vendor that takes a minute."""
    found = {}
    with running_catalogues("batch") as bench:
        for name, callbacks in (("callbacks_on", True), ("callbacks_off", False)):
            cost, _ = bench.run("batch", tracks, task_seconds=60, poll_interval=None, callbacks=callbacks)
            found[name] = cost.reads_per_track
    return found


def measure_growth(tracks: int) -> Cost:
    """Measure a catalogue with a vendor that takes a minute, so that thousands of tracks wait together."""
    with running_catalogues("batch") as bench:
        bench.run("batch", 200)  # warm-up
        return bench.run("batch", tracks, task_seconds=60, poll_interval=30)[0]


def measure_landing() -> dict[str, float]:
    """Measure landing and a bare loop, three times in turn."""
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


def compare(cpu: dict[str, float]) -> dict[str, Any]:
    """Compare CPU seconds per track with those of the general operators."""
    return {
        "cpu_seconds_per_track": cpu,
        "ratio_single": round(cpu["peer"] / cpu["single"], 1),
        "ratio_batch": round(cpu["peer"] / cpu["batch"], 1),
        "ratio_single_warm_peer": round(cpu["peer, warm"] / cpu["single"], 1),
        "ratio_batch_warm_peer": round(cpu["peer, warm"] / cpu["batch"], 1),
    }


@click.command(context_settings={"show_default": True})
@click.option("--peer", default=16, help="Tracks of the general operators.")
@click.option("--single", default=48, help="Tracks of VocalSeparationOperator.")
@click.option("--batch", default=1000, help="Tracks of VocalSeparationBatchOperator, 200 in a task.")
@click.option(
    "--window",
    default=240,
    help="Tracks of one batch against the vendor's window; eight concurrent batches have twice as many.",
)
@click.option("--sizes", default="1000,10000", help="Tracks of the growing catalogue.")
@click.option("--growth-only", is_flag=True, help="Measure only growth, and add it to an earlier report.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".bench/report.json"))
def main(peer: int, single: int, batch: int, window: int, sizes: str, growth_only: bool, path: Path) -> None:
    """Measure the cost of tracks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"growth_cpu_seconds_per_track": dict.fromkeys(SIZES), "runs": {}}
    if growth_only and path.exists():
        report = json.loads(path.read_text())
    runs: dict[str, Cost] = {}

    def keep(**found: Any) -> None:
        """Write the figures so far, so that a later failure does not lose them."""
        report.update(found)
        report["runs"] |= {name: asdict(cost) for name, cost in runs.items()}
        path.write_text(json.dumps(report, indent=2) + "\n")

    if not growth_only:
        runs = measure_costs(peer, single, batch)
        keep(**compare({name: cost.cpu_per_track for name, cost in runs.items()}))
        keep(submit_window_share=measure_window_share(window))
        keep(status_reads_per_track=measure_reads(200))
        keep(landing=measure_landing())
    for size in map(int, sizes.split(",")):
        runs[f"growth {size}"] = cost = measure_growth(size)
        report["growth_cpu_seconds_per_track"][str(size)] = cost.cpu_per_track
        keep(trigger_memory_kib_per_waiting_track=round(cost.triggerer_mib * KIBIBYTE / size, 2))
    show(runs, report)


def show(runs: dict[str, Cost], report: dict[str, Any]) -> None:
    table = Table("per track", *runs, title="Cost of a track")
    for label, field in (
        ("tracks", "tracks"),
        ("CPU seconds", "cpu_per_track"),
        ("CPU seconds including the idle Airflow's", "cpu_per_track_gross"),
        ("worker-slot seconds", "slot_seconds_per_track"),
        ("task starts", "task_starts_per_track"),
        ("status reads", "reads_per_track"),
        ("wall seconds of the run", "wall"),
        ("peak MiB of the triggerer above idle", "triggerer_mib"),
        ("peak MiB of scheduler and tasks above idle", "workers_mib"),
    ):
        table.add_row(label, *(str(getattr(cost, field)) for cost in runs.values()))
    console.print(table)
    for name, value in report.items():
        if name != "runs":
            console.print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
