"""
Measure the memory of landing, and its speed against a bare loop.

    python benchmarks/landing_memory.py                          # one stem of 300 MB
    python benchmarks/landing_memory.py --stems 12 --parallel 12 # twelve at the same time
    python benchmarks/landing_memory.py --stems 12 --bare        # also with a bare download-and-upload loop

A host process serves MP3 files of valid frames, SeaweedFS stores them, and a worker process lands them. The
result is the worker's peak according to the kernel (``VmHWM``), less its size before landing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import requests
from rich.console import Console
from rich.table import Table

from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType, TaskStatus
from airflow_provider_vocalsep.demo.seaweed import running_seaweed
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import Lander
from airflow_provider_vocalsep.storage.clients import client_with_keys
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

#: One frame of MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes.
FRAME = b"\xff\xfb\x90\x64" + bytes(range(256)) + bytes(157)
BLOCK = FRAME * 2048

MEGABYTE = 1000 * 1000
MEBIBYTE = 1024 * 1024


def memory(field: str) -> int:
    """Return bytes of this process: ``VmRSS`` now, ``VmHWM`` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


class Host(BaseHTTPRequestHandler):
    """Serves ``/<bytes>/<anything>.mp3``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        left = int(self.path.split("/")[1])
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.send_header("ETag", f'"{left}"')
        self.end_headers()
        while left:
            left -= self.wfile.write(BLOCK[:left])

    def log_message(self, format: str, *args: Any) -> None:
        pass


def body_digest(size: int) -> str:
    """Return the digest of a file of the host."""
    digest = hashlib.sha256()
    while size:
        digest.update(BLOCK[:size])
        size -= min(size, len(BLOCK))
    return digest.hexdigest()


@click.group(invoke_without_command=True)
@click.option("--stems", default=1, show_default=True, help="Number of stems.")
@click.option("--megabytes", default=300, show_default=True, help="Size of each stem.")
@click.option("--parallel", default=4, show_default=True, help="Stems that land at the same time.")
@click.option("--bare", is_flag=True, help="Also measure a bare download-and-upload loop.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the result to this file.")
@click.pass_context
def main(
    context: click.Context, stems: int, megabytes: int, parallel: int, bare: bool, json_path: str | None
) -> None:
    """Measure memory and speed of landing."""
    if context.invoked_subcommand:
        return
    with (
        tempfile.TemporaryDirectory(prefix="landing-memory-") as folder,
        running_seaweed(Path(folder), ["stems"], port=None) as server,
        running(("host",)) as host,
    ):
        assert host.stdout is not None
        port = int(host.stdout.readline())
        rows = []
        for method in ("lander", "bare") if bare else ("lander",):
            request = {
                "method": method,
                "urls": [f"http://127.0.0.1:{port}/{megabytes * MEGABYTE}/{i}.mp3" for i in range(stems)],
                "parallel": parallel,
                "endpoint_url": server.endpoint_url,
                "access_key": server.access_key,
                "secret_key": server.secret_key,
            }
            with running(("work",)) as worker:
                out, _ = worker.communicate(json.dumps(request))
            if worker.returncode:
                raise SystemExit(worker.returncode)
            rows.append(json.loads(out.splitlines()[-1]))
        expected = body_digest(megabytes * MEGABYTE)
        if any(digest != expected for digest in rows[0]["sha256"]):
            raise SystemExit("The landed bytes differ from those of the host.")
    report = {
        "stems": stems,
        "megabytes": megabytes,
        "parallel": parallel,
        "runs": [{name: value for name, value in row.items() if name != "sha256"} for row in rows],
    }
    if json_path:
        Path(json_path).write_text(json.dumps(report, indent=2) + "\n")
    table = Table("method", "idle MiB", "peak MiB", "above idle MiB", "seconds", "MB/s", "CPU s")
    for row in rows:
        idle, peak = row["idle_bytes"] / MEBIBYTE, row["peak_bytes"] / MEBIBYTE
        rate = stems * megabytes / row["seconds"]
        figures = (idle, peak, peak - idle, row["seconds"], rate, row["cpu_seconds"])
        table.add_row(row["method"], *(f"{figure:.1f}" for figure in figures))
    console = Console(stderr=True)
    console.print(f"{stems} x {megabytes} MB, {parallel} at a time")
    console.print(table)
    print(json.dumps(report))


@main.command()
def host() -> None:
    """Serve stems until stdin ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


@main.command()
def work() -> None:
    """Land the stems of a request on stdin, and print memory and time."""
    request = json.loads(sys.stdin.read())
    client = client_with_keys(
        request["endpoint_url"], request["access_key"], request["secret_key"], max_pool_connections=32
    )
    method = {"lander": land, "bare": copy}[request["method"]]
    client.list_objects_v2(Bucket="stems")  # a worker has used its client before it lands
    idle, began, cpu = memory("VmRSS"), time.monotonic(), time.process_time()
    digests = method(client, request["urls"], request["parallel"])
    result = {
        "method": request["method"],
        "idle_bytes": idle,
        "peak_bytes": memory("VmHWM"),
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "sha256": digests,
    }
    print(json.dumps(result))


def land(client: Any, urls: list[str], parallel: int) -> list[str]:
    links = tuple(StemLink(f"stem{i}", url) for i, url in enumerate(urls))
    task = SeparationTask("0" * 32, TaskStatus.SUCCESS, links)
    lander = Lander(ObjectStore(client), guard=DownloadGuard(allow_private_hosts=True), max_parallel=parallel)
    manifest = lander.land(
        task,
        Location.parse("s3://stems/landed").stems("song", SeparationType.SPLIT_STEM),
        track=Track(key="song", task_id="m", audio_id="a"),
        dialect="sunoapi",
        refresh=lambda: task,
    )
    return [stem.sha256 for stem in manifest.stems]


def copy(client: Any, urls: list[str], parallel: int) -> list[str]:
    """Copy stems in a few lines without checks, with boto3's own multipart upload."""
    session = requests.Session()

    def one(url: str) -> str:
        with session.get(url, stream=True, timeout=60) as response:
            response.raise_for_status()
            client.upload_fileobj(response.raw, "stems", f"copied/{url.rsplit('/', 1)[1]}")
        return ""

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(one, urls))


class running:
    """Runs this script in a process that ends with the block."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


if __name__ == "__main__":
    main()
