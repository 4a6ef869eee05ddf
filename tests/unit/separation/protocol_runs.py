"""Two DAG runs over one catalogue: the batch's legs, Airflow's rows, the trigger and the receiver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet
from protocol_world import (
    DESTINATION,
    KIND,
    WRONG_ARGUMENT,
    Bucket,
    Charge,
    Clock,
    Lander,
    Process,
    Store,
    Vendor,
    calling,
    jsonable,
)

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.models import Callback
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.callbacks.channel import callback_event
from airflow_provider_vocalsep.callbacks.inbox import callbacks_by_attempt, record_delivery
from airflow_provider_vocalsep.ledger import Event, Ledger, LedgerEntry, TaskInstanceRef
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.separation.batch import BatchJob
from airflow_provider_vocalsep.separation.batch_polling import BatchPoller
from airflow_provider_vocalsep.separation.runtime import (
    LandingTarget,
    OnLostSubmit,
    Runtime,
    SeparationOptions,
)
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

TRACKS = [
    Track(key="made there", task_id="t", audio_id="a"),
    Track(key="own file", audio_url="s3://music/own.wav"),
]
GRACE = 900.0
TIMEOUT = 3600.0
INTERVAL = 30.0


class Gate:
    """The gate of the vendor's window; other processes may run before a turn."""

    def wait(self, _: object = None) -> None:
        calling("wait for a turn")

    def accepted(self) -> None: ...

    def refused(self, _: Exception) -> None: ...


@dataclass
class TaskInstance:
    """A task instance with a batch, as Airflow's database has it."""

    run_id: str
    calls_back: bool
    try_number: int = 0
    policy: OnLostSubmit = OnLostSubmit.ADOPT
    deferral: dict[str, Any] | None = None
    poller: BatchPoller | None = None
    inbox: Any = None
    ended: bool = False
    resubmitting: set[int] = field(default_factory=set)

    @property
    def asker(self) -> TaskInstanceRef:
        return TaskInstanceRef(dag_id="d", run_id=self.run_id, task_id="separate", try_number=self.try_number)

    @property
    def report_key(self) -> str:
        return f"_vocalsep/runs/{self.run_id}.jsonl"


class Scene:
    """The catalogue, its vendor and bucket, the runs over it, and the invariants after each step."""

    def __init__(self, *, callbacks: bool) -> None:
        self.clock = Clock()
        self.versions = {"own.wav": "v1"}
        self.bucket = Bucket(self.versions)
        self.charges: dict[str, Charge] = {}
        self.store = Store(self.on_write)
        self.instances = [TaskInstance("r1", callbacks), TaskInstance("r2", callbacks)]
        self.processes: list[Process] = []
        self.claimed: dict[greenlet, str] = {}

    # Airflow

    def begin_try(self, ti: TaskInstance, policy: OnLostSubmit) -> None:
        """Clear or retry a task instance; processes of earlier tries may continue."""
        ti.try_number += 1
        ti.policy, ti.deferral, ti.poller, ti.ended = policy, None, None, False
        if policy is OnLostSubmit.RESUBMIT:
            ti.resubmitting.add(ti.try_number)
        self._fork(ti, None)

    def resume(self, ti: TaskInstance, ended: dict[str, Any]) -> None:
        """Start the next leg of a deferred task instance."""
        ti.deferral = ti.poller = None
        self._fork(ti, ended)

    def _fork(self, ti: TaskInstance, ended: dict[str, Any] | None) -> None:
        leg = Leg(self, ti)

        def run() -> None:
            try:
                leg.run(ended)
            except VocalSepError:
                leg.die()

        self.processes.append(Process(run))

    def defer(self, ti: TaskInstance, wait: dict[str, Any]) -> None:
        """Defer a task instance, as JSON, to the triggerer."""
        ti.deferral = jsonable(wait)
        self.host_trigger(ti)

    def host_trigger(self, ti: TaskInstance) -> None:
        """Start the trigger of a deferred task instance, also again on another host."""
        if ti.deferral is not None:
            wait = {name: value for name, value in ti.deferral.items() if name != "in_doubt"}
            ti.poller = BatchPoller(now=self.clock().timestamp(), **wait)

    def trigger_reads(self, ti: TaskInstance) -> None:
        """Let the trigger of a deferred task instance make the reads that are due."""
        poller, now = ti.poller, self.clock().timestamp()
        if poller is None:
            return
        for task_id in poller.due(now):
            poller.on_record(task_id, self.charges[task_id].record, now)
        if poller.is_over(now):
            self.resume(ti, poller.outcomes())

    # The receiver of callbacks

    def call_back(self, charge: Charge) -> None:
        """Deliver a callback to the task instance that the address of its attempt names."""
        ti = next((ti for ti in self.instances if ti.run_id == charge.reports_to), None)
        if ti is None:
            return
        before = ti.inbox or {}
        value, _ = record_delivery(
            before.get(charge.attempt_id), Callback(charge.vendor_task_id, charge.code or 200), self.clock()
        )
        if value is not None:
            ti.inbox = jsonable({**before, charge.attempt_id: value})
        if ti.deferral is not None:
            received = callbacks_by_attempt(ti.inbox)
            ids = {item.vendor_task_id for items in received.values() for item in items}
            if ids.issuperset(ti.deferral["waiting"]) and set(received).issuperset(ti.deferral["in_doubt"]):
                self.resume(ti, {})

    # Invariants

    def on_pay(self, charge: Charge) -> None:
        """Check that no separation is paid again unless its task failed or ``resubmit`` gave it up."""
        given_up = {
            event.attempt_id
            for entry in self.store.entries()
            for event in entry.history
            if event.event == "submit_given_up" and self.chose_to_resubmit(event.by)
        }
        for before in self.charges.values():
            if (before.source, before.fingerprint) != (charge.source, charge.fingerprint):
                continue
            # An attempt that was given up may still be sending: its process is slower than the wait.
            chosen = given_up & {before.attempt_id, charge.attempt_id}
            assert before.record.failed or chosen, f"{charge} is paid for twice: {before}"

    def chose_to_resubmit(self, asker: TaskInstanceRef | None) -> bool:
        assert asker is not None
        ti = next(ti for ti in self.instances if ti.run_id == asker.run_id)
        return asker.try_number in ti.resubmitting

    def on_write(self, before: LedgerEntry | None, after: LedgerEntry) -> None:
        """Check that a write loses nothing, and that its state follows from its history."""
        self.claimed[getcurrent()] = after.current.attempt_id
        if before is not None:
            assert not missing(before, after)
        ids = [attempt.attempt_id for attempt in after.attempts]
        assert len(set(ids)) == len(ids), "an attempt is there twice"
        assert after.state == state_by(after.history), (
            f"{after.state} after {[e.event for e in after.history]}"
        )


def missing(before: LedgerEntry, after: LedgerEntry) -> list[object]:
    """Return what the older version of an entry has and the newer lacks."""
    lost: list[object] = [uri for uri in before.landings if uri not in after.landings]
    for old, new in zip(before.attempts, [*after.attempts, *[None] * len(before.attempts)], strict=False):
        same = new is not None and new.attempt_id == old.attempt_id
        if not same or (old.vendor_task_id and new.vendor_task_id != old.vendor_task_id):
            lost.append(old)
    for old, new in zip(before.history, [*after.history, *[None] * len(before.history)], strict=False):
        kept = new is not None and (old.event, old.at, old.attempt_id, old.vendor_task_id) == (
            new.event,
            new.at,
            new.attempt_id,
            new.vendor_task_id,
        )
        if not kept or new.count < old.count:
            lost.append(old)
    return lost


def state_by(history: list[Event]) -> str:
    """
    Return the state of an entry that follows from its history alone.

    Refusals and further sends take turns and are counted, so their order is in their counts.
    """
    state, attempt, task, refusal, open_refusals = "", None, None, "", 0
    for event in history:
        if event.event == "claimed":
            state, attempt, task, open_refusals = "claimed", event.attempt_id, None, 0
        elif event.event in ("submitted", "adopted") and event.attempt_id == attempt:
            state, task = "submitted", event.vendor_task_id
        elif event.event == "separated" and event.vendor_task_id == task:
            state = "separated"
        elif event.event == "landed" and event.vendor_task_id == task:
            state = "landed"
        elif event.event == "sent_again" and event.attempt_id == attempt:
            open_refusals -= event.count
            state = refusal if open_refusals else "claimed"
        elif event.event == "submit_refused" and event.attempt_id == attempt:
            open_refusals += event.count
            refusal = state = "failed" if event.code == WRONG_ARGUMENT else "refused"
        elif event.event == "failed" and event.attempt_id == attempt and state != "landed":
            state = "failed"
    return state


class Leg:
    """One process of the batch operator, without Airflow: see ``VocalSeparationBatchOperator``."""

    def __init__(self, scene: Scene, ti: TaskInstance) -> None:
        self.scene = scene
        self.ti = ti
        self.asker = ti.asker
        self.policy = ti.policy
        self.ledger = Ledger(scene.store, now=scene.clock)

    def run(self, ended: dict[str, Any] | None) -> None:
        before = self._report()
        job = self._job(before if ended is not None and before else BatchReport.of(TRACKS, before))
        job.begin()
        if ended is not None:
            job.resume(ended)
        if job.waiting and job.all_called_back():
            job.resume({})
        if job.waiting or job.report.rows_in(RowState.IN_DOUBT):
            self._write(job.report)
            self._defer(job)
            return
        job.report.concluded = True
        self._write(job.report)
        self.ti.ended = self.current

    @property
    def current(self) -> bool:
        """Whether Airflow still accepts the end of this process."""
        return self.asker.try_number == self.ti.try_number

    def die(self) -> None:
        """Fail the try."""
        self.ti.ended = self.current

    def _defer(self, job: BatchJob) -> None:
        if not self.current:
            return
        doubts, now = job.report.rows_in(RowState.IN_DOUBT), self.scene.clock().timestamp()
        wait = {
            "waiting": job.waiting,
            "deadline": now + TIMEOUT,
            "poll_interval": INTERVAL,
            "until": min((row.until.timestamp() for row in doubts if row.until), default=None),
            "read_at_once": not self.ti.calls_back,
            "in_doubt": [row.attempt_id for row in doubts],
        }
        self.scene.defer(self.ti, wait)

    def _report(self) -> BatchReport | None:
        calling("read report")
        body = self.scene.bucket.objects.get(self.ti.report_key)
        return BatchReport.from_jsonl(body) if body else None

    def _write(self, report: BatchReport) -> None:
        self.scene.bucket.put(self.ti.report_key, report.to_jsonl())

    def _job(self, report: BatchReport) -> BatchJob:
        scene, me = self.scene, getcurrent()
        vendor: Any = Vendor(scene.charges, attempt_id=lambda: scene.claimed.get(me, ""), paying=scene.on_pay)
        lander: Any = Lander(scene.bucket, scene.charges, scene.clock)
        gate: Any = Gate()
        report_file: Any = None
        store = ObjectStore(scene.bucket)  # type: ignore[arg-type]
        runtime = Runtime(
            options=SeparationOptions(KIND, on_lost_submit=self.policy, adoption_grace=GRACE),
            asked_by=self.asker,
            vendor=vendor,
            ledger=self.ledger,
            callbacks=Inbox(self.ti, self.asker),
            store=store,
            target=LandingTarget(store, Location.parse(DESTINATION), lander, report_file),
            gate=gate,
            sleep=scene.clock.sleep,
        )
        return BatchJob(TRACKS, report, runtime)


class Inbox:
    """The callbacks of a task instance, as ``BatchCallbackChannel`` reads them."""

    def __init__(self, ti: TaskInstance, asked_by: TaskInstanceRef) -> None:
        self.ti = ti
        self.asked_by = asked_by
        self.enabled = ti.calls_back
        self.inbox = callbacks_by_attempt(ti.inbox)

    def refresh(self) -> None:
        self.inbox.update(callbacks_by_attempt(self.ti.inbox))

    def url_of(self, attempt_id: str) -> str:
        return f"https://airflow/{self.ti.run_id}"

    def events_of(self, attempt_id: str) -> list[Event]:
        received = self.inbox.get(attempt_id, [])
        return [callback_event(callback, attempt_id, self.asked_by) for callback in received]

    def vendor_task_of(self, attempt_id: str) -> str | None:
        found = self.inbox.get(attempt_id)
        return found[0].vendor_task_id if found else None
