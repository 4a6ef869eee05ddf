"""The stack of docker-compose.yaml, started once and healed before each test."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.demo.airflow_api import RUN_ENDED, AirflowApiError
from airflow_provider_vocalsep.demo.processes import ServiceError, wait_until
from tests.bed.distributed import BUCKET, Distributed, running_distributed
from tests.bed.invariants import InvariantReport, check_invariants
from tests.bed.postgres import postgres_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAG_ID = "bed_batches"


@dataclass
class Batches:
    """A DAG run over a numbered catalogue that no other test uses, and its results."""

    bed: Distributed
    name: str
    tracks: int
    slow: bool = False
    run_id: str = ""
    hosts: set[str] = field(default_factory=set)
    triggerers: set[int] = field(default_factory=set)

    def start(self, **conf: Any) -> None:
        self.run_id = self.bed.api.trigger(
            DAG_ID,
            {
                "name": self.name,
                "tracks": self.tracks,
                "destination": f"s3://{BUCKET}/{self.name}",
                "conn_id": "vocalsep_slow" if self.slow else "vocalsep_quick",
                **conf,
            },
        )

    def tasks(self) -> list[dict[str, Any]]:
        return self.bed.api.task_instances(DAG_ID, self.run_id, "separate")

    def states(self) -> Counter[str | None]:
        return Counter(ti["state"] for ti in self.tasks())

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout: float = 120) -> None:
        """Wait for a condition of the run, and start services that have ended, as Docker would."""
        states: Counter[str | None] = Counter()

        def check() -> bool:
            self.bed.stack.supervise()
            with suppress(AirflowApiError):
                states.clear()
                states.update(self.states())
                return ready()
            return False

        try:
            wait_until(check, what=what, timeout=timeout, every=0.5)
        except ServiceError as e:
            raise AssertionError(f"{e} Batches: {dict(states)}") from None

    def wait(self, timeout: float = 240) -> str:
        state = ""

        def ended() -> bool:
            nonlocal state
            self.hosts |= {ti["hostname"] for ti in self.tasks() if ti["hostname"]}
            state = self.bed.api.dag_run(DAG_ID, self.run_id)["state"]
            return state in RUN_ENDED

        self.wait_until(ended, what=f"run {self.name} to end", timeout=timeout)
        return state

    def check_invariants(self) -> InvariantReport:
        vendor = self.bed.slow_sandbox if self.slow else self.bed.quick_sandbox
        sources = {f"{self.name}-task-{n:06}/{self.name}-audio-{n:06}" for n in range(self.tracks)}
        return check_invariants(self.bed.s3, BUCKET, self.name, sources, vendor.books())

    def assert_each_landed_for_one_charge(self) -> None:
        report = self.check_invariants()
        assert report.holds, report
        assert (report.landed, report.charges) == (self.tracks, self.tracks), report

    def callbacks(self) -> Counter[str]:
        rows = self.bed.rows(
            "SELECT event FROM log WHERE run_id = %s AND event LIKE %s", self.run_id, "vocalsep_callback_%"
        )
        return Counter(event for (event,) in rows)


@pytest.fixture(scope="session")
def running_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distributed]:
    if not (postgres_installed() and shutil.which("redis-server")):
        pytest.skip("PostgreSQL or Redis is not installed: apt-get install postgresql redis-server")
    home = tmp_path_factory.mktemp("bed")
    # Separated songs are kept for the next session.
    cache = Path(__file__).parents[2] / ".cache" / "sandbox"
    cache.mkdir(parents=True, exist_ok=True)
    (home / "volumes" / "sandbox").mkdir(parents=True)
    (home / "volumes" / "sandbox" / "cache").symlink_to(cache)
    with running_distributed(home) as bed:
        wait_until(lambda: bed.api.has_dag(DAG_ID), what=DAG_ID, timeout=60, every=0.5)
        yield bed


@pytest.fixture
def bed(running_bed: Distributed) -> Distributed:
    """The stack, healed of the faults of earlier tests."""
    for proxy in running_bed.stack.proxies.values():
        proxy.heal()
    for sandbox in (running_bed.quick_sandbox, running_bed.slow_sandbox):
        sandbox.clear_faults()
    wait_until(lambda: supervise(running_bed), what="a healthy stack", timeout=180, every=0.5)
    return running_bed


def supervise(bed: Distributed) -> bool:
    """Start instances that have ended, as Docker would, and return whether the stack is healthy."""
    bed.stack.supervise()
    return bed.healthy()


@pytest.fixture
def batches(bed: Distributed, request: pytest.FixtureRequest) -> Callable[..., Batches]:
    """Create a DAG run over a catalogue that no other test uses."""
    prefix = request.node.originalname.removeprefix("test_").replace("_", "-")[:30]

    def make(tracks: int, *, slow: bool = False) -> Batches:
        return Batches(bed, f"{prefix}-{uuid.uuid4().hex[:8]}", tracks, slow)

    return make


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    began = time.monotonic()
    return lambda: time.monotonic() - began
