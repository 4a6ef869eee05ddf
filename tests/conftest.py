"""Fixtures of all tests: a temporary Airflow home, and servers that start when a test first needs them."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import tempfile
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before any import of Airflow, which reads its settings and writes its home while it is imported.
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="vocalsep-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.sandbox.server import RunningSandbox
    from tests.bed.seaweed import BedSeaweedServer

BUCKET = "stems"

#: Folders of tests, fast ones first; each but ``unit`` is also a marker.
KINDS = ("unit", "integration", "packaging", "live", "distributed")

ROOT = Path(__file__).parent


def kind_of(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if kind_of(item) != "unit":
            item.add_marker(kind_of(item))
    items.sort(key=lambda item: KINDS.index(kind_of(item)))


@pytest.fixture
def no_resume_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers yield their events at once: the resume delay is only needed beside a scheduler."""
    monkeypatch.setattr("airflow_provider_vocalsep.triggers.resume_delay.resume_delay", lambda: 0.0)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BedSeaweedServer]:
    """A real S3 server with an empty bucket ``stems``."""
    from tests.bed.seaweed import running_seaweed

    with running_seaweed(tmp_path_factory.mktemp("seaweed"), [BUCKET]) as server:
        yield server


@pytest.fixture(scope="session")
def s3(seaweed: BedSeaweedServer) -> S3Client:
    """A boto3 client of the S3 server."""
    return seaweed.client()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    """The sandbox in a process of its own; the stems that it computes are cached for the next session."""
    from airflow_provider_vocalsep.demo.sandbox import sandbox_service

    cache = ROOT.parent / ".cache" / "sandbox"
    options = ["--task-seconds", "0.5", "--submit-rate", "1000/1s", "--credits", "1000000"]
    folder = tmp_path_factory.mktemp("sandbox")
    with sandbox_service(folder, port=None, cache_dir=cache, options=options) as running:
        yield running


class StatsdServer:
    """Receives StatsD packets, with tags in InfluxDB's format."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def settings(self) -> dict[str, str]:
        """Section ``[metrics]`` of an Airflow that sends to this server."""
        port = str(self._socket.getsockname()[1])
        return {
            "statsd_on": "True",
            "statsd_host": "127.0.0.1",
            "statsd_port": port,
            "statsd_influxdb_enabled": "True",
        }

    def stop(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while packet := self._socket.recv(65536):
            self.lines += packet.decode().splitlines()

    def ours(self, **tags: str) -> list[tuple[str, dict[str, str], float]]:
        """Return name, tags and value of the provider's metrics that have all these tags."""
        found = []
        for line in list(self.lines):
            if match := re.fullmatch(r"airflow\.vocalsep\.([a-z_.]+)((?:,[^:]*)?):([\d.]+)\|(?:c|ms)", line):
                own_tags = dict(tag.split("=", 1) for tag in match[2].split(",") if tag)
                if tags.items() <= own_tags.items():
                    found.append((match[1], own_tags, float(match[3])))
        return found

    def sums(self, **tags: str) -> dict[str, float]:
        """Return the sum of each counter, and how often each timer was sent."""
        sums: Counter[str] = Counter()
        for name, _, value in self.ours(**tags):
            sums[name] += 1 if name.endswith("_duration") else value
        return dict(sums)


@pytest.fixture(scope="session")
def statsd_server() -> Iterator[StatsdServer]:
    """A StatsD server for the session."""
    server = StatsdServer()
    yield server
    server.stop()


@pytest.fixture
def statsd(statsd_server: StatsdServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """A StatsD server for both Stats of this process: the task SDK's, and core's, which API servers use."""
    from airflow._shared.observability.metrics import stats as core
    from airflow.observability.metrics import stats_utils as core_utils
    from airflow.sdk._shared.observability.metrics import stats as sdk
    from airflow.sdk.observability.metrics import stats_utils as sdk_utils

    with monkeypatch.context() as patch:
        for name, value in statsd_server.settings.items():
            patch.setenv(f"AIRFLOW__METRICS__{name.upper()}", value)
        for stats, utils in ((core, core_utils), (sdk, sdk_utils)):
            stats.initialize(factory=utils.get_stats_factory(), export_legacy_names=False)
        statsd_server.lines.clear()
        yield statsd_server
    for stats in (core, sdk):
        if stats._backend:
            stats._backend.statsd.close()
    for stats, utils in ((core, core_utils), (sdk, sdk_utils)):
        stats.initialize(factory=utils.get_stats_factory(), export_legacy_names=False)


@pytest.fixture
def faulty(sandbox: RunningSandbox) -> Iterator[Callable[..., str]]:
    """Switch on faults of the sandbox until the end of the test."""
    yield sandbox.set_fault
    sandbox.clear_faults()


@pytest.fixture
def booked() -> Callable[[RunningSandbox], dict[str, float]]:
    """Read a vendor's books with the field names of ``vocalsep audit``."""

    def read(vendor: RunningSandbox) -> dict[str, float]:
        books = vendor.books()
        return {
            "submits": books["submits"],
            "credits": books["credits_charged"],
            "given_back": books["credits_refunded"],
            "failures": sum("FAILED" in task["status"] for task in books["tasks"]),
            "refusals": sum(books["refusals"].values()),
            "callbacks": books["callbacks"],
        }

    return read


@pytest.fixture
def call() -> Callable[..., tuple[str, ...]]:
    """Return the arguments of a command about a destination, so that it only reads."""
    options = {
        "audit": (),
        "prune": ("--older-than", "90d"),
        "retry-plan": ("-o", "-"),
        "show": ("one",),
        "verify": (),
    }
    return lambda command, address: (command, address, *options[command])


@pytest.fixture
def bucket(seaweed: BedSeaweedServer) -> str:
    """Name of the bucket; each test has its own :func:`prefix` in it."""
    return seaweed.buckets[0]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix in the bucket that no other test uses, without a slash at the end."""
    return f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower()).strip('-')[:60]}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def destination(bucket: str, prefix: str) -> str:
    """An ``s3://`` address that no other test uses."""
    return f"s3://{bucket}/{prefix}"
