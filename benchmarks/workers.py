"""
Measures a catalogue over two Celery workers against one, on the stack of docker-compose.yaml.

    make bench-workers                           # ten minutes; needs PostgreSQL and Redis
    make bench-workers ARGS="--tracks 100"

Vendor and object storage share this machine's cores with Airflow. A second worker therefore adds slots for
tasks that wait for the network, but no CPU.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from airflow_provider_vocalsep.demo.processes import wait_until
from tests.bed.distributed import BUCKET, running_distributed

if TYPE_CHECKING:
    from tests.bed.distributed import Distributed

console = Console()
DAG_ID = "bed_batches"

#: Capacity of the bed's two triggerers.
BATCHES = 20


def separate(bed: Distributed, name: str, tracks: int) -> tuple[float, Counter[str]]:
    """Separate a numbered catalogue, and return its seconds and the number of batches by worker."""
    prefix = f"{name}-"
    conf = {
        "name": name,
        "tracks": tracks,
        "chunk_size": math.ceil(tracks / BATCHES),
        "destination": f"s3://{BUCKET}/{name}",
    }
    began = time.monotonic()
    run_id = bed.api.trigger(DAG_ID, conf)
    state = bed.api.wait_for_run(DAG_ID, run_id, timeout=3600, every=0.25)
    seconds = time.monotonic() - began
    pages = bed.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/{prefix}")
    landed = sum(
        item["Key"].endswith("/manifest.json") for page in pages for item in page.get("Contents", [])
    )
    books = bed.quick_sandbox.books()["tracks"]
    charges = sum(row["submits"] for source, row in books.items() if source.startswith(prefix))
    if (state, landed, charges) != ("success", tracks, tracks):
        raise SystemExit(f"{tracks} tracks: {state}, {landed} landed, {charges} charged.")
    return seconds, Counter(
        instance["hostname"] for instance in bed.api.task_instances(DAG_ID, run_id, "separate")
    )


def measure(workers: int, tracks: int) -> dict[str, Any]:
    """Measure a catalogue on a stack with the given number of workers."""
    with (
        tempfile.TemporaryDirectory(prefix="vocalsep-workers-") as folder,
        running_distributed(Path(folder), replicas={"worker": workers}, proxied=()) as bed,
    ):
        wait_until(lambda: bed.api.has_dag(DAG_ID), what=DAG_ID, timeout=60, every=0.5)
        separate(bed, "warm", BATCHES)
        seconds, hosts = separate(bed, "counted", tracks)
        concurrency = int(bed.stack.services["worker"].environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    result = {
        "workers": workers,
        "slots": workers * concurrency,
        "seconds": round(seconds, 1),
        "tracks_per_second": round(tracks / seconds, 2),
        "batches_by_worker": dict(sorted(hosts.items())),
    }
    console.print(
        f"{tracks} tracks over {workers} worker(s): {seconds:.0f} s, {tracks / seconds:.1f} tracks a second, "
        f"batches by worker {result['batches_by_worker']}",
        highlight=False,
    )
    return result


@click.command(context_settings={"show_default": True})
@click.option("--tracks", default=1000, type=click.IntRange(BATCHES), help="Tracks of the catalogue.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".bench/workers.json"))
def main(tracks: int, path: Path) -> None:
    """Measure a catalogue over one Celery worker and over two."""
    runs = [measure(workers, tracks) for workers in (1, 2)]
    gain = runs[1]["tracks_per_second"] / runs[0]["tracks_per_second"]
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "tracks": tracks,
        "batches": BATCHES,
        "cores": os.cpu_count(),
        "runs": runs,
        "gain": round(gain, 2),
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"Two workers reach {gain:.2f} times the rate of one. Figures: {path}", highlight=False)


if __name__ == "__main__":
    main()
