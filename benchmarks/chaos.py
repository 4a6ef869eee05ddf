"""
Separates catalogues through the distributed stack while random faults are injected.

    make chaos                                   # two minutes, with a random seed
    make chaos SECONDS=600 SEED=7

The seed determines the faults, their times and their durations. Two catalogues are in progress at any time,
some of them by two concurrent DAG runs. Each is checked when it has ended. At the end, all faults are healed,
failed catalogues run once more, and all are checked again: every charge in the vendor's books, every entry of
the ledger, every byte in the bucket.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from chaos_faults import FAULTS, Fault, NoTargetError
from rich.console import Console

from airflow_provider_vocalsep.demo.airflow_api import RUN_ENDED, AirflowApiError
from airflow_provider_vocalsep.demo.processes import ServiceError, wait_until
from airflow_provider_vocalsep.sandbox.server import SandboxError
from tests.bed.distributed import BUCKET, Distributed, running_distributed
from tests.bed.invariants import InvariantReport, check_invariants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

console = Console(highlight=False)
DAG_ID = "bed_batches"

#: Tracks of a catalogue, and of a batch.
TRACKS, CHUNK = 60, 10
#: Number of catalogues in progress at any time.
CONCURRENT = 2
#: Every third catalogue is separated by two concurrent DAG runs.
TWICE = 3
#: Mean seconds between two faults, and longest duration of a fault in seconds.
PAUSE, LONGEST = 3.0, 12.0
#: Seconds after which a batch stops waiting for a vendor task, so that a stuck one fails only its track.
TIMEOUT = 60
#: Seconds without a heartbeat after which the scheduler is restarted, as by a liveness probe.
LIVENESS = 40
#: Seconds within which all runs must end after the faults.
END_TIMEOUT = 600


@dataclass
class Catalogue:
    """
    Numbered tracks, and the DAG runs that separate them.

    :param runs: Whether each run has ended, by its id.
    """

    name: str
    runs: dict[str, bool] = field(default_factory=dict)

    @property
    def sources(self) -> set[str]:
        return {f"{self.name}-task-{n:06}/{self.name}-audio-{n:06}" for n in range(TRACKS)}

    @property
    def ended(self) -> bool:
        return bool(self.runs) and all(self.runs.values())


@dataclass(frozen=True)
class Injection:
    """
    One planned fault.

    :param at: Seconds from the start.
    :param duration: Seconds until it is healed.
    :param random: Source of the fault's own random choices.
    """

    at: float
    duration: float
    fault: Fault
    random: random.Random


def plan_injections(seed: int, seconds: float) -> Iterator[Injection]:
    """Plan the faults from the seed alone."""
    source, at = random.Random(seed), 0.0
    while (at := at + source.expovariate(1 / PAUSE)) < seconds:
        (fault,) = source.choices(FAULTS, [fault.weight for fault in FAULTS])
        yield Injection(at, source.uniform(1, LONGEST), fault, random.Random(source.random()))


class Soak:
    """
    Separates catalogues, injects faults, and checks the results.

    :param seed: Determines the faults.
    :param seconds: Seconds during which faults are injected.
    """

    def __init__(self, bed: Distributed, seed: int, seconds: float) -> None:
        self.bed = bed
        self.seconds = seconds
        self.catalogues: list[Catalogue] = []
        self.injected: Counter[str] = Counter()
        self.violations: list[str] = []
        self._injections = list(plan_injections(seed, seconds))
        self._heals: list[tuple[float, Callable[[], object]]] = []
        self._unhealthy_since: float | None = None
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def inject_faults(self) -> None:
        """Separate catalogues under faults until the time is over."""
        printed = 0.0
        while self.now < self.seconds:
            self._inject_due()
            self._heal(lambda due: due <= self.now)
            self._supervise()
            self._keep_busy()
            if self.now - printed > 30:
                printed = self.now
                ended = sum(catalogue.ended for catalogue in self.catalogues)
                console.print(
                    f"{self.now:4.0f} s: {sum(self.injected.values())} faults, {ended} of "
                    f"{len(self.catalogues)} catalogues ended"
                )
            time.sleep(0.2)

    def heal_all(self) -> None:
        """End all faults, and wait until all runs have ended."""
        self._heal(lambda _: True)
        for proxy in self.bed.stack.proxies.values():
            proxy.heal()
        self.bed.quick_sandbox.clear_faults()
        self.bed.stack.supervise()
        # A restarted vendor continues stuck tasks. Otherwise, each of them would use up its retries.
        self.bed.stack.restart("quick-sandbox")
        self._wait()

    def run_again(self) -> None:
        """Run incomplete catalogues once more."""
        for catalogue in self.catalogues:
            if self.read_report(catalogue).landed < TRACKS:
                self._start(catalogue)
        self._wait()

    def read_report(self, catalogue: Catalogue) -> InvariantReport:
        """Compare a catalogue's tracks with the books, the ledger and the bucket."""
        books = self.bed.quick_sandbox.books()
        return check_invariants(self.bed.s3, BUCKET, catalogue.name, catalogue.sources, books)

    def check(self, catalogue: Catalogue, *, final: bool = True) -> InvariantReport:
        """
        Check a catalogue whose runs have ended, and record violations.

        :param final: Whether every track must be landed, failed or claimed. Before the last run, a batch that
            failed early has not claimed its other tracks.
        """
        report = self.read_report(catalogue)
        if not (report if final else replace(report, lost=0)).holds:
            self.violations.append(f"{catalogue.name}: {report}"[:1000])
            console.print(f"[red]{self.violations[-1]}[/red]", soft_wrap=True)
        return report

    def _inject_due(self) -> None:
        while self._injections and self._injections[0].at <= self.now:
            injection = self._injections.pop(0)
            with suppress(NoTargetError, ServiceError, SandboxError, OSError):
                heal = injection.fault.inject(self.bed, injection.random)
                self.injected[injection.fault.kind] += 1
                if heal is not None:
                    self._heals.append((self.now + injection.duration, heal))

    def _heal(self, due: Callable[[float], bool]) -> None:
        for item in [item for item in self._heals if due(item[0])]:
            self._heals.remove(item)
            item[1]()

    def _supervise(self) -> None:
        """Start instances that ended without a fault, and restart a scheduler without a heartbeat."""
        killed = {getattr(heal, "__self__", None) for _, heal in self._heals}
        for name, instance in self.bed.stack.instances.items():
            if not instance.running and instance not in killed:
                instance.start()
                if name == "scheduler":
                    self._unhealthy_since = None
        with suppress(AirflowApiError):
            if self.bed.api.health().get("scheduler") == "healthy":
                self._unhealthy_since = None
                return
            self._unhealthy_since = self._unhealthy_since or self.now
            if self.now - self._unhealthy_since > LIVENESS:
                self.injected["restarted_by_liveness_probe"] += 1
                self.bed.stack.restart("scheduler")
                self._unhealthy_since = None

    def _keep_busy(self) -> None:
        for catalogue in self.catalogues:
            if self._follow(catalogue):
                self.check(catalogue, final=False)
        if sum(not catalogue.ended for catalogue in self.catalogues) < CONCURRENT:
            catalogue = Catalogue(f"c{len(self.catalogues):03}")
            self.catalogues.append(catalogue)
            self._start(catalogue)
            if len(self.catalogues) % TWICE == 0:
                self._start(catalogue)
                self.injected["two_runs_at_once"] += 1

    def _start(self, catalogue: Catalogue) -> None:
        run_id = f"soak__{catalogue.name}__{len(catalogue.runs)}"
        catalogue.runs[run_id] = False
        self._trigger(catalogue, run_id)

    def _trigger(self, catalogue: Catalogue, run_id: str) -> None:
        """Start a DAG run, unless it exists: the answer to an earlier request may have been lost."""
        conf = {
            "name": catalogue.name,
            "tracks": TRACKS,
            "chunk_size": CHUNK,
            "destination": f"s3://{BUCKET}/{catalogue.name}",
            "on_lost_submit": "adopt",
            "timeout": TIMEOUT,
            "poll_interval": 10,
        }
        with suppress(AirflowApiError):
            self.bed.api.trigger(DAG_ID, conf, run_id=run_id)

    def _follow(self, catalogue: Catalogue) -> bool:
        """Read the states of a catalogue's runs; return whether the last of them has just ended."""
        if catalogue.ended:
            return False
        for run_id in [run_id for run_id, ended in catalogue.runs.items() if not ended]:
            try:
                catalogue.runs[run_id] = self.bed.api.dag_run(DAG_ID, run_id)["state"] in RUN_ENDED
            except AirflowApiError:
                self._trigger(catalogue, run_id)
        return catalogue.ended

    def _wait(self) -> None:
        def all_ended() -> bool:
            self._supervise()
            for catalogue in self.catalogues:
                self._follow(catalogue)
            return all(catalogue.ended for catalogue in self.catalogues)

        wait_until(all_ended, what="the end of all runs", timeout=END_TIMEOUT, every=1)


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=120.0, help="Seconds during which faults are injected.")
@click.option(
    "--seed",
    type=int,
    default=lambda: random.SystemRandom().randrange(10**6),
    help="Repeats the faults of an earlier run.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".chaos/report.json"))
def main(seconds: float, seed: int, path: Path) -> None:
    """Inject faults into the distributed stack while it separates catalogues."""
    console.print(f"Seed {seed}: make chaos SECONDS={seconds:g} SEED={seed}")
    with (
        tempfile.TemporaryDirectory(prefix="vocalsep-chaos-") as folder,
        running_distributed(Path(folder)) as bed,
    ):
        wait_until(lambda: bed.api.has_dag(DAG_ID), what=DAG_ID, timeout=60, every=0.5)
        soak = Soak(bed, seed, seconds)
        soak.inject_faults()
        soak.heal_all()
        soak.run_again()
        found = [soak.check(catalogue) for catalogue in soak.catalogues]
    report = {
        "seed": seed,
        "seconds": seconds,
        "injected": dict(sorted(soak.injected.items())),
        **{
            name: sum(getattr(one, name) for one in found)
            for name in (
                "planned",
                "landed",
                "failed",
                "claimed",
                "charges",
                "double_charges",
                "lost",
                "corrupted",
            )
        },
        "history_gaps": sum(len(one.history_gaps) for one in found),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print_json(data=report)
    if soak.violations:
        raise SystemExit("\n".join(["Violated invariants:", *soak.violations]))
    console.print(f"No track was paid twice, lost or corrupted. Figures: {path}")


if __name__ == "__main__":
    main()
