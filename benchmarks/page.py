"""
The page in Airflow's UI on a large bucket: 100,000 ledger entries, the plans and reports of 500 runs.

    make bench-page                                # ten minutes, most of them to fill the bucket
    make bench-page ARGS="--tracks 10000 --runs 50"

Uses a real S3 server, a real API server with PostgreSQL, and Chromium if it is installed. Airflow's database
has the DAG runs, and the arguments of a hundred thousand task instances of other DAGs.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psycopg2
import requests
from page_bucket import DAG_ID, DESTINATION, Library
from rich.console import Console
from rich.table import Table
from stack import running_stack

from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.ui.mount import PAGE_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack import Stack

console = Console()

#: Task instances of other DAGs whose arguments Airflow remembers.
OTHER_TASK_INSTANCES = 100_000

#: Connections that a browser opens to one server.
BROWSER_CONNECTIONS = 6

#: Seconds within which a user sees the page.
GOAL = 1.0


@dataclass
class Timings:
    """
    Durations of repeated requests.

    :param seconds: Each duration.
    """

    seconds: list[float]

    def report(self) -> dict[str, float]:
        """Return the figures."""
        ordered = sorted(self.seconds)
        return {
            "times": len(ordered),
            "p50": round(statistics.median(ordered), 3),
            "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3),
            "worst": round(ordered[-1], 3),
        }


class User:
    """
    A user who is logged in.

    :param stack: The Airflow.
    """

    def __init__(self, stack: Stack) -> None:
        airflow = stack.airflow
        self.url = f"{airflow.url}{PAGE_PATH}"
        credentials = {"username": airflow.username, "password": airflow.password}
        answer = requests.post(f"{airflow.url}/auth/token", json=credentials, timeout=30)
        self.token = answer.json()["access_token"]
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def ask(self, path: str, **query: Any) -> Any:
        """Return what a route answers."""
        answer = self.http.get(f"{self.url}/{path}", params=query, timeout=120)
        answer.raise_for_status()
        return answer.json() if path.startswith("api/") else answer.text

    def view(self) -> dict[str, Any]:
        """Request all that a browser without a cache requests; return the runs."""
        text = self.ask("")
        parts = [part.split('"')[0] for part in text.split('="')[1:] if part.startswith("static/")]
        with ThreadPoolExecutor(BROWSER_CONNECTIONS) as pool:
            list(pool.map(self.ask, parts))
        return self.ask("api/runs")


def fill_database(stack: Stack, runs: int) -> None:
    """Write DAG runs and arguments of task instances into Airflow's database, without their DAGs."""
    with psycopg2.connect(stack.database) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "INSERT INTO dag_run (dag_id, run_id, run_type, run_after, state, start_date, end_date, "
            "clear_number, span_status) "
            "SELECT %s, 'manual__' || lpad(n::text, 4, '0'), 'manual', now(), 'success', "
            "now() - interval '1 h', now(), 0, 'not_started' FROM generate_series(0, %s) n",
            (DAG_ID, runs - 1),
        )
        theirs = {
            "sql": "SELECT * FROM orders WHERE day = '2026-11-23' " * 4,
            "destination": "s3://warehouse/orders",
            "aws_conn_id": "warehouse",
            "env": {f"NAME_{n}": "value" for n in range(10)},
        }
        cursor.execute(
            "INSERT INTO rendered_task_instance_fields (dag_id, task_id, run_id, map_index, rendered_fields) "
            "SELECT 'etl_' || n %% 300, 'load', 'scheduled__' || n, -1, %s FROM generate_series(1, %s) n",
            (json.dumps(theirs), OTHER_TASK_INSTANCES),
        )
        ours = {
            "destination": DESTINATION,
            "vocalsep_conn_id": "vocalsep_default",
            "aws_conn_id": "aws_default",
            "ledger": None,
        }
        cursor.execute(
            "INSERT INTO rendered_task_instance_fields (dag_id, task_id, run_id, map_index, rendered_fields) "
            "SELECT %s, 'separate', 'manual__' || lpad(n::text, 4, '0'), -1, %s "
            "FROM generate_series(0, 29) n",
            (DAG_ID, json.dumps(ours)),
        )
    connection.close()


def restart(stack: Stack, cache: Path, *, keep_index: bool) -> None:
    """Restart the API server, as after an upgrade."""
    server = stack.airflow.services["api-server"]
    server.stop()
    if not keep_index:
        for folder in cache.glob("vocalsep-page-*"):
            shutil.rmtree(folder)
    server.start()
    stack.airflow.wait_until_healthy()


def measure_seconds(request: Callable[[], Any]) -> float:
    began = time.perf_counter()
    request()
    return time.perf_counter() - began


def measure(stack: Stack, library: Library, cache: Path, repeats: int) -> dict[str, Any]:
    """Measure all requests."""
    found: dict[str, Timings] = {}
    indexed: list[float] = []
    cold: list[float] = []
    restarted: list[float] = []
    for _ in range(repeats):
        restart(stack, cache, keep_index=False)
        user = User(stack)
        began = time.perf_counter()
        runs = user.view()
        cold.append(time.perf_counter() - began)
        if not runs["runs"]:
            console.print("the first cold view has no run yet: it shows that it is reading", style="yellow")
        wait_until(lambda: _all_read(user, library), what="the index", timeout=600, every=0.1)
        indexed.append(time.perf_counter() - began)
        restart(stack, cache, keep_index=True)
        user = User(stack)
        restarted.append(measure_seconds(user.view))
    found["first view, fresh index and API server"] = Timings(cold)
    found["all reports read after"] = Timings(indexed)
    found["first view, fresh API server"] = Timings(restarted)
    found["view"] = Timings([measure_seconds(user.view) for _ in range(30)])
    sample = random.Random(1).sample(library.known, min(40, len(library.known)))
    found["search in all tracks"] = Timings(
        [measure_seconds(lambda: _search(user, name)) for _, name in sample]
    )
    found["search for what is in each of them"] = Timings(
        [measure_seconds(lambda: user.ask("api/tracks", q="track")) for _ in range(20)]
    )
    found["track"] = Timings([measure_seconds(lambda: user.ask("api/track", **ids)) for ids, _ in sample])
    big = {"dag_id": DAG_ID, "run_id": library.largest}
    total = user.ask("api/tracks", **big)["total"]
    assert total == library.largest_tracks, total
    found[f"a page of the run of {total:,} tracks"] = Timings(
        [
            measure_seconds(lambda: user.ask("api/tracks", **big, offset=offset))
            for offset in range(0, total, 100)
        ]
    )
    found["that run's counts"] = Timings(
        [measure_seconds(lambda: user.ask("api/run", **big)) for _ in range(20)]
    )
    if browser := _in_chromium(user, 5):
        found["view in Chromium, to the first row"] = Timings(browser)
    return {name: took.report() for name, took in found.items()}


def _all_read(user: User, library: Library) -> bool:
    answer = user.ask("api/runs")
    return answer["total"] == library.runs and not answer["unread"]


def _search(user: User, name: str) -> None:
    assert user.ask("api/tracks", q=name.upper())["total"] >= 1, name


def _in_chromium(user: User, repeats: int) -> list[float]:
    """Open the page in a browser without a cache."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return []
    from playwright.sync_api import sync_playwright

    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repeats):
            context = browser.new_context()
            context.add_cookies([{"name": "_token", "value": user.token, "url": user.url}])
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{user.url}/", wait_until="commit")
            page.locator("tbody tr").first.wait_for()
            took.append(time.perf_counter() - began)
            context.close()
        browser.close()
    return took


@click.command(context_settings={"show_default": True})
@click.option("--tracks", default=100_000, help="Tracks, with a ledger entry each.")
@click.option("--runs", default=500, help="Runs; the first has a fifth of the tracks.")
@click.option("--repeats", default=3, help="Starts of the API server.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".bench/page.json"))
def main(tracks: int, runs: int, repeats: int, path: Path) -> None:
    """Measure the page."""
    with tempfile.TemporaryDirectory(prefix="vocalsep-page-bench-") as folder:
        cache = Path(folder) / "cache"
        cache.mkdir()
        options = {"vocalsep": {"destinations": DESTINATION}}
        with running_stack(Path(folder), dags=[], options=options, env={"TMPDIR": str(cache)}) as stack:
            began = time.monotonic()
            library = Library(tracks, runs)
            library.write(stack.s3)
            fill_database(stack, runs)
            console.print(f"{tracks:,} entries, {runs} runs written in {time.monotonic() - began:.0f} s")
            found = measure(stack, library, cache, repeats)
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"tracks": tracks, "runs": runs, "goal": GOAL, "seconds": found}
    path.write_text(json.dumps(report, indent=2) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    table = Table("seconds", "p50", "p95", "worst", "times")
    for name, took in report["seconds"].items():
        style = "yellow" if took["p95"] > report["goal"] and "read after" not in name else None
        table.add_row(name, *(str(took[column]) for column in ("p50", "p95", "worst", "times")), style=style)
    console.print(table)


if __name__ == "__main__":
    main()
