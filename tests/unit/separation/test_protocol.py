"""
A model of the ledger's protocol: any interleaving of two DAG runs, receiver and trigger, with a kill at any
call.

``make model`` searches longer than the test suite.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from protocol_runs import TRACKS, Scene, TaskInstance
from protocol_world import DESTINATION, KIND, Process, no_threads_and_no_pauses, stem_of

from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri

#: Number of histories, and of steps in each.
EXAMPLES = int(os.environ.get("VOCALSEP_MODEL_EXAMPLES", "250"))
STEPS = int(os.environ.get("VOCALSEP_MODEL_STEPS", "70"))

#: A claim counts as in flight for three minutes; a lost submit is awaited for a quarter of an hour.
PAUSES = st.sampled_from([1.0, 60.0, 200.0, 1000.0, 4000.0])
POLICIES = st.sampled_from([OnLostSubmit.ADOPT, OnLostSubmit.ADOPT, OnLostSubmit.RESUBMIT, OnLostSubmit.FAIL])


@dataclass(frozen=True)
class Mishap:
    """A process runs to the nth call of a name; there it halts, meets a fate, or is killed."""

    name: str
    nth: int
    fate: int
    killed: str

    def befall(self, process: Process) -> None:
        passed = 0
        while process.at is not None:
            passed += process.at.name == self.name
            if passed == self.nth:
                break
            process.step()
        if process.at is None or self.fate < 0:
            return
        if self.killed != "before":
            process.step(process.at.fates[self.fate % len(process.at.fates)])
        if self.killed:
            process.kill()


#: Important calls are repeated. A submit has six fates; -1 halts the process before the call.
MISHAPS = st.builds(
    Mishap,
    name=st.sampled_from(
        ["submit", "submit", "submit", "write entry", "write entry", "read entry", "read the source"]
        + ["wait for a turn", "put object", "read record", "none: it runs to its end"]
    ),
    nth=st.sampled_from([1, 1, 2, 3]),
    fate=st.integers(-1, 5),
    killed=st.sampled_from(["", "", "before", "after"]),
)
ENDS = st.sampled_from(
    [
        (TaskStatus.SUCCESS, None),
        (TaskStatus.SUCCESS, None),
        (TaskStatus.GENERATE_AUDIO_FAILED, 500),
        (TaskStatus.GENERATE_AUDIO_FAILED, 531),
    ]
)


class Protocol(RuleBasedStateMachine):
    @initialize(callbacks=st.booleans())
    def start(self, callbacks: bool) -> None:
        self.scene = Scene(callbacks=callbacks)

    def chosen(self, data: st.DataObject) -> Process:
        running = [process for process in self.scene.processes if process.alive]
        return data.draw(st.sampled_from(running))

    def any_alive(self) -> bool:
        return any(process.alive for process in self.scene.processes)

    @rule(which=st.integers(0, 1), policy=POLICIES, mishap=MISHAPS)
    def a_try_begins(self, which: int, policy: OnLostSubmit, mishap: Mishap) -> None:
        self.scene.begin_try(self.scene.instances[which], policy)
        mishap.befall(self.scene.processes[-1])

    @precondition(any_alive)
    @rule(data=st.data(), steps=st.integers(1, 6))
    def a_process_goes_on(self, data: st.DataObject, steps: int) -> None:
        process = self.chosen(data)
        for _ in range(steps):
            if process.alive:
                process.step()

    @precondition(any_alive)
    @rule(data=st.data(), mishap=MISHAPS)
    def a_process_goes_wrong(self, data: st.DataObject, mishap: Mishap) -> None:
        mishap.befall(self.chosen(data))

    @precondition(any_alive)
    @rule(data=st.data())
    def a_process_finishes(self, data: st.DataObject) -> None:
        self.chosen(data).finish()

    @rule(data=st.data(), end=ENDS)
    def the_vendor_ends_a_task(self, data: st.DataObject, end: tuple[TaskStatus, int | None]) -> None:
        pending = [c for c in self.scene.charges.values() if c.status is TaskStatus.PENDING]
        if pending:
            charge = data.draw(st.sampled_from(pending))
            charge.status, charge.code = end

    @rule(data=st.data())
    def the_vendor_calls_back(self, data: st.DataObject) -> None:
        ended = [c for c in self.scene.charges.values() if c.status is not TaskStatus.PENDING]
        if ended:
            self.scene.call_back(data.draw(st.sampled_from(ended)))

    @rule(which=st.integers(0, 1), seconds=PAUSES)
    def a_trigger_reads(self, which: int, seconds: float) -> None:
        self.scene.clock.passes(seconds)
        self.scene.trigger_reads(self.scene.instances[which])

    @rule(which=st.integers(0, 1))
    def a_triggerer_is_lost(self, which: int) -> None:
        self.scene.host_trigger(self.scene.instances[which])

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.scene.clock.passes(seconds)

    @rule()
    def the_own_file_is_replaced(self) -> None:
        version = int(self.scene.versions["own.wav"][1:])
        self.scene.versions["own.wav"] = f"v{version + 1}"

    def teardown(self) -> None:
        """Without further mishaps all that is paid lands, and all that may have been paid is reported."""
        if hasattr(self, "scene"):
            # A clear may find, by its callback, that a lost submit has failed for the last time that one task
            # instance pays for; the clear after it submits again.
            for ti in [*self.scene.instances, *self.scene.instances]:
                settle(self.scene, ti)
            for ti in self.scene.instances:
                settle(self.scene, ti)
                check_report(self.scene, ti)
            check_books(self.scene)


def settle(scene: Scene, ti: TaskInstance) -> None:
    """Clear a task instance and run it to its end."""
    scene.begin_try(ti, OnLostSubmit.ADOPT)
    for _ in range(60):
        for process in scene.processes:
            process.finish()
        for charge in scene.charges.values():
            if charge.status is TaskStatus.PENDING:
                charge.status = TaskStatus.SUCCESS
        for charge in list(scene.charges.values()):
            scene.call_back(charge)
        if ti.ended:
            return
        scene.clock.passes(600)
        scene.trigger_reads(ti)
    pytest.fail(f"{ti} does not end")


def check_report(scene: Scene, ti: TaskInstance) -> None:
    """Check that every track landed or failed, and failed only if its submit was lost."""
    report = BatchReport.from_jsonl(scene.bucket.objects[ti.report_key])
    assert [row.track for row in report.rows.values()] == [track.key for track in TRACKS]
    for row in report.rows.values():
        assert row.state in (RowState.LANDED, RowState.FAILED)
        if row.state is RowState.FAILED:
            assert "may have been paid" in (row.message or "")


def check_books(scene: Scene) -> None:
    """Check that all that is paid is in the bucket, byte by byte; only a lost submit may hide a charge."""
    entries = list(scene.store.entries())
    assert len(entries) == len(TRACKS)
    known = {a.vendor_task_id for entry in entries for a in entry.attempts if a.vendor_task_id}
    unknown = {
        a.attempt_id for entry in entries for a in entry.attempts if not a.vendor_task_id and not a.outcome
    }
    for charge in scene.charges.values():
        assert charge.vendor_task_id in known or charge.attempt_id in unknown, f"{charge} is lost"
    for entry in entries:
        # A slow process may have submitted an earlier version of the file; the current one counts.
        version = scene.versions["own.wav"] if entry.track_key == "own file" else ""
        asked = next(a for a in reversed(entry.attempts) if a.fingerprint == version)
        if asked.attempt_id in unknown:
            continue
        assert entry.state is EntryState.LANDED or asked is not entry.current
        assert ("landed", asked.vendor_task_id) in {(e.event, e.vendor_task_id) for e in entry.history}
        check_stems(scene, entry.track_key, asked.vendor_task_id)


def check_stems(scene: Scene, track_key: str, vendor_task_id: str | None) -> None:
    place = Location.parse(DESTINATION).stems(track_key, KIND)
    manifest = Manifest.from_json(scene.bucket.objects[place.manifest_key])
    assert manifest.vendor_task_id == vendor_task_id
    for stem in manifest.stems:
        body = scene.bucket.objects[parse_s3_uri(stem.uri)[1]]
        assert body == stem_of(scene.charges[manifest.vendor_task_id], stem.name)


def test_nothing_is_paid_twice_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with no_threads_and_no_pauses():
        run_state_machine_as_test(
            Protocol,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
