"""
Catalogues through the distributed stack while everything is broken, at random and again and again.

    make chaos                                   # two minutes, a seed of its own
    make chaos SECONDS=600 SEED=7

What is broken, when, and for how long follows from the seed. Two catalogues are under way at any time, some
by two DAG runs at once. Each is checked when it has ended, and all of them after everything was mended and
what failed was run once more: every charge in the vendor's books, every entry of the ledger, every byte in
the bucket.
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
from chaos_faults import FAULTS, Fault, NothingToBreak
from rich.console import Console

from airflow_provider_vocalsep.demo.airflow_api import RUN_ENDED, AirflowApiError
from airflow_provider_vocalsep.demo.processes import ServiceError, wait_until
from airflow_provider_vocalsep.sandbox.server import SandboxError
from tests.bed.distributed import BUCKET, Distributed, running_distributed
from tests.bed.invariants import Audit, audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

console = Console(highlight=False)
DAG_ID = "bed_batches"

#: Tracks of a catalogue, and of a batch.
TRACKS, CHUNK = 60, 10
#: Catalogues that are under way at any time.
AT_ONCE = 2
#: One catalogue in so many is run by two DAG runs at once.
TWICE = 3
#: Seconds between two faults and for which one lasts, on average and at most.
PAUSE, LASTS = 3.0, 12.0
#: Seconds that a vendor task is waited for: a stuck one ends nothing but its track.
TIMEOUT = 60
#: Seconds without a heartbeat after which a component is started anew, as a liveness probe would.
LIVENESS = 40
#: Seconds for which what is under way may take to end once all is mended.
PATIENCE = 600


@dataclass
class Catalogue:
    """Numbered tracks, and the DAG runs that separate them."""

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
    """One fault of the plan: seconds from the start, for so many seconds."""

    at: float
    lasts: float
    fault: Fault
    chance: random.Random


def plan(seed: int, seconds: float) -> Iterator[Injection]:
    """Tell from the seed alone what is broken when."""
    chance, at = random.Random(seed), 0.0
    while (at := at + chance.expovariate(1 / PAUSE)) < seconds:
        (fault,) = chance.choices(FAULTS, [fault.weight for fault in FAULTS])
        yield Injection(at, chance.uniform(1, LASTS), fault, random.Random(chance.random()))


class Soak:
    """
    Separates catalogues, breaks the stack, and looks at what came of it.

    :param bed: The stack.
    :param seed: What follows is planned from it.
    :param seconds: For how long things are broken.
    """

    def __init__(self, bed: Distributed, seed: int, seconds: float) -> None:
        self.bed = bed
        self.seconds = seconds
        self.catalogues: list[Catalogue] = []
        self.injected: Counter[str] = Counter()
        self.violations: list[str] = []
        self._injections = list(plan(seed, seconds))
        self._mends: list[tuple[float, Callable[[], object]]] = []
        self._unwell: dict[str, float] = {}
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def break_things(self) -> None:
        """Go on until the time is over."""
        told = 0.0
        while self.now < self.seconds:
            self._strike()
            self._mend(lambda due: due <= self.now)
            self._look_after()
            self._keep_busy()
            if self.now - told > 30:
                told = self.now
                ended = sum(catalogue.ended for catalogue in self.catalogues)
                console.print(
                    f"{self.now:4.0f} s: {sum(self.injected.values())} faults, {ended} of "
                    f"{len(self.catalogues)} catalogues ended"
                )
            time.sleep(0.2)

    def mend_everything(self) -> None:
        """End all faults, and wait until what was under way has ended."""
        self._mend(lambda _: True)
        for proxy in self.bed.stack.proxies.values():
            proxy.heal()
        self.bed.quick_sandbox.clear_faults()
        self.bed.stack.supervise()
        # A vendor that is started anew takes up the tasks that were stuck; or else each is retried until its
        # retries are over.
        self.bed.stack.instances["quick-sandbox"].restart()
        self._wait()

    def run_again(self) -> None:
        """Run once more what has not landed as a whole."""
        for catalogue in self.catalogues:
            if self.look_at(catalogue).landed < TRACKS:
                self._start(catalogue)
        self._wait()

    def look_at(self, catalogue: Catalogue) -> Audit:
        """Compare a catalogue's tracks with the books, the ledger and the bucket."""
        return audit(self.bed.s3, BUCKET, catalogue.name, catalogue.sources, self.bed.quick_sandbox.books())

    def check(self, catalogue: Catalogue, *, at_the_end: bool = True) -> Audit:
        """Look at a catalogue all of whose runs have ended, and remember what must not be."""
        found = self.look_at(catalogue)
        # A run that failed early, on the way, has claimed nothing of the rest: the next one does.
        if not (found if at_the_end else replace(found, lost=0)).sound:
            self.violations.append(f"{catalogue.name}: {found}"[:1000])
            console.print(f"[red]{self.violations[-1]}[/red]", soft_wrap=True)
        return found

    def _strike(self) -> None:
        while self._injections and self._injections[0].at <= self.now:
            injection = self._injections.pop(0)
            with suppress(NothingToBreak, ServiceError, SandboxError, OSError):
                mend = injection.fault.strike(self.bed, injection.chance)
                self.injected[injection.fault.kind] += 1
                if mend is not None:
                    self._mends.append((self.now + injection.lasts, mend))

    def _mend(self, due: Callable[[float], bool]) -> None:
        for item in [item for item in self._mends if due(item[0])]:
            self._mends.remove(item)
            item[1]()

    def _look_after(self) -> None:
        """Restart what has ended by itself or has no heartbeat, as an orchestrator does."""
        broken = {getattr(mend, "__self__", None) for _, mend in self._mends}
        for name, instance in self.bed.stack.instances.items():
            if not instance.running and instance not in broken:
                instance.start()
                self._unwell.pop(name, None)
        with suppress(AirflowApiError):
            health = self.bed.api.health()
            if health.get("scheduler") == "healthy":
                self._unwell.pop("scheduler", None)
            elif self.now - self._unwell.setdefault("scheduler", self.now) > LIVENESS:
                self.injected["restarted_by_liveness_probe"] += 1
                self.bed.stack.instances["scheduler"].restart()
                self._unwell.pop("scheduler")

    def _keep_busy(self) -> None:
        for catalogue in self.catalogues:
            if self._follow(catalogue):
                self.check(catalogue, at_the_end=False)
        if sum(not catalogue.ended for catalogue in self.catalogues) < AT_ONCE:
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
        """Start a DAG run, if it is not there: an answer to this may have been lost."""
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
        """Ask for the states of a catalogue's runs; tell whether the last of them has ended just now."""
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
            self._look_after()
            for catalogue in self.catalogues:
                self._follow(catalogue)
            return all(catalogue.ended for catalogue in self.catalogues)

        wait_until(all_ended, what="all runs to end", timeout=PATIENCE, every=1)


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=120.0, help="For how long things are broken.")
@click.option(
    "--seed",
    type=int,
    default=lambda: random.SystemRandom().randrange(10**6),
    help="Repeats what was broken when.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path(".chaos/report.json"))
def main(seconds: float, seed: int, path: Path) -> None:
    """Break the distributed stack while it separates catalogues."""
    console.print(f"Seed {seed}: make chaos SECONDS={seconds:g} SEED={seed}")
    with (
        tempfile.TemporaryDirectory(prefix="vocalsep-chaos-") as folder,
        running_distributed(Path(folder)) as bed,
    ):
        wait_until(lambda: bed.api.has_dag(DAG_ID), what=DAG_ID, timeout=60, every=0.5)
        soak = Soak(bed, seed, seconds)
        soak.break_things()
        soak.mend_everything()
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
        raise SystemExit("\n".join(["Violated:", *soak.violations]))
    console.print(f"Nothing was paid twice, lost or corrupted. Figures: {path}")


if __name__ == "__main__":
    main()
