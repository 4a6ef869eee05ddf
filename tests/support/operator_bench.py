"""Operators as Airflow calls them, with a fake vendor and a bucket in the test's process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import time_machine
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_vocalsep.client.pace import AdaptiveRate, Gate, parse_rate
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, describe_track
from airflow_provider_vocalsep.ledger import LedgerEntry
from airflow_provider_vocalsep.operators.vocal_separation import (
    VocalSeparationBatchOperator,
    VocalSeparationOperator,
)
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.runtime import Runtime
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore
from tests.support.manual_clock import START
from tests.support.vendor import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_vocalsep.api.errors import VocalSepError
    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.client.settings import AccountSettings
    from airflow_provider_vocalsep.storage.location import StemLocation
    from tests.support.vendor import FakeVendor

BUCKET = "stems"
DESTINATION = f"s3://{BUCKET}/music"

#: Legs after which a run counts as one without an end.
MAX_LEGS = 30

#: Sleeps after which a wait counts as one without an end.
MAX_SLEEPS = 5000


class FakeLander:
    """
    Writes an object for each stem that the vendor offers, and the manifest last; downloads nothing.

    :param store: The object store.
    """

    #: An error to raise instead of landing.
    error: VocalSepError | None = None
    #: Errors to raise in place of the next landings.
    errors: ClassVar[list[VocalSepError]] = []
    #: Called before each landing.
    on_land: Callable[[], object] | None = None
    landings = 0

    def __init__(self, store: ObjectStore, **_: object) -> None:
        self.store = store

    def land(
        self,
        task: SeparationTask,
        location: StemLocation,
        *,
        track: Track,
        asked_by: dict[str, Any],
        entry: str | None,
        **_: object,
    ) -> Manifest:
        if FakeLander.on_land:
            FakeLander.on_land()
        if FakeLander.errors:
            raise FakeLander.errors.pop(0)
        if FakeLander.error:
            raise FakeLander.error
        if not task.present:
            raise LandingError("the record has no links", failures={})
        FakeLander.landings += 1
        stems = []
        for link in task.present:
            body, key = f"{task.task_id} {link.name}".encode(), location.stem_key(link.name, "mp3")
            tag = self.store.put(location.bucket, key, body, content_type="audio/mpeg")
            stems.append(
                LandedStem(
                    name=link.name,
                    uri=location.uri_of(key),
                    bytes=len(body),
                    sha256=sha256(body).hexdigest(),
                    content_type="audio/mpeg",
                    etag=tag.etag,
                )
            )
        manifest = Manifest(
            track=describe_track(track),
            separation_type=location.separation_type,
            dialect="sunoapi",
            vendor_task_id=task.task_id,
            landed_at=datetime.now(timezone.utc),
            stems=tuple(stems),
            uri=location.manifest_uri,
            asked_by=asked_by,
            entry=entry,
        )
        body = manifest.to_json()
        self.store.put(location.bucket, location.manifest_key, body, content_type="application/json")
        return manifest


class TaskState(dict[str, Any]):
    """Airflow's task state store of one task instance."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


class Process:
    """The worker process that runs a leg. Once it is dead, nothing leaves it until the next try begins."""

    dead = False

    def die(self) -> None:
        """End here, as by SIGKILL."""
        self.dead = True
        raise Killed

    def require_alive(self, **_: object) -> None:
        """Go no further in a process that is dead."""
        if self.dead:
            raise Killed


class MortalVendor:
    """
    The client of the vendor in a process that may die.

    :param vendor: The vendor.
    """

    def __init__(self, vendor: FakeVendor, process: Process) -> None:
        self.vendor = vendor
        self.process = process

    @property
    def settings(self) -> AccountSettings:
        return self.vendor.settings

    def submit(self, *args: Any, **kwargs: Any) -> str:
        self.process.require_alive()
        try:
            return self.vendor.submit(*args, **kwargs)
        except Killed:
            self.process.die()
            raise

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        self.process.require_alive()
        return self.vendor.read_task(vendor_task_id)

    def close(self) -> None: ...


class OperatorBench:
    """
    One task instance, and what its tries leave in ledger, run report, task state and XCom. Time passes only
    while somebody sleeps.

    :param store: The object store, with an empty bucket.
    :param run_id: Its DAG run.
    """

    def __init__(self, vendor: FakeVendor, store: ObjectStore, *, run_id: str = "run") -> None:
        self.vendor = vendor
        self.store = store
        self.run_id = run_id
        self.process = Process()
        self.task_state = TaskState()
        self.tries = 0
        self.max_tries = 3
        self.xcom: dict[str, Any] = {}
        #: Called with the seconds of each sleep, before it.
        self.on_sleep: Callable[[float], object] | None = None
        self._sleeps = 0
        self._handlers: list[tuple[str, Callable[..., None]]] = []

    def another_run(self, run_id: str = "another run") -> OperatorBench:
        """Return the same task in another DAG run, over the same bucket and vendor."""
        another = OperatorBench(self.vendor, self.store, run_id=run_id)
        another.process = self.process
        return another

    @contextmanager
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperatorBench]:
        """Replace vendor, object store, lander and clock of the operators."""
        runtime, client = (
            "airflow_provider_vocalsep.operators._runtime",
            MortalVendor(self.vendor, self.process),
        )

        async def read_task(_: object, vendor_task_id: str) -> SeparationTask | None:
            return client.read_task(vendor_task_id)

        monkeypatch.setattr(VocalSeparationHook, "settings", property(lambda _: self.vendor.settings))
        monkeypatch.setattr(VocalSeparationHook, "client", client)
        monkeypatch.setattr(VocalSeparationHook, "aread_task", read_task)
        monkeypatch.setattr(f"{runtime}.store_from_connection", self._open_store)
        monkeypatch.setattr(f"{runtime}.Lander", FakeLander)
        self._register("before-parameter-build.s3", self.process.require_alive)
        with time_machine.travel(START, tick=False) as self._traveller:
            self._install_clock(monkeypatch, runtime)
            yield self
        for event, handler in self._handlers:
            self.store.client.meta.events.unregister(event, handler)
        FakeLander.error, FakeLander.errors, FakeLander.on_land, FakeLander.landings = None, [], None, 0

    def _register(self, event: str, handler: Callable[..., None]) -> None:
        self._handlers.append((event, handler))
        self.store.client.meta.events.register(event, handler)

    def _install_clock(self, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
        sleep_for_real = time.sleep
        sleep_async_for_real: Any = asyncio.sleep
        # Threads of the session, such as a sandbox, do not take part in the test.
        others = set(threading.enumerate()) - {threading.current_thread()}

        def sleep(seconds: float) -> None:
            if threading.current_thread() in others:
                sleep_for_real(seconds)
            else:
                self.sleep(seconds)

        async def sleep_async(seconds: float, *result: object) -> Any:
            if threading.current_thread() in others:
                return await sleep_async_for_real(seconds, *result)
            self.sleep(seconds)
            return await sleep_async_for_real(0, *result)

        def submit_gate(base_url: str, account: str, rate: str) -> Gate:
            # A new one for each leg, which is a process of its own.
            return Gate(AdaptiveRate(*parse_rate(rate)), now=time.time, sleep=self.sleep)

        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(asyncio, "sleep", sleep_async)
        monkeypatch.setattr(SteadyClock, "__call__", lambda _: time.time())
        monkeypatch.setattr(f"{runtime}.Runtime", partial(Runtime, sleep=self.sleep))
        monkeypatch.setattr(f"{runtime}.submit_gate", submit_gate)

    @staticmethod
    def now() -> datetime:
        """Return the time."""
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.process.require_alive()
        if self.on_sleep:
            self.on_sleep(seconds)
        self._sleeps += 1
        assert self._sleeps < MAX_SLEEPS, f"still waiting after {MAX_SLEEPS} sleeps"
        # The rest of a wait may be less than a tick of the clock, and time passes on a real machine.
        self._traveller.shift(timedelta(seconds=max(0.001, seconds)))

    def in_the_back_off(self, action: Callable[[], object]) -> None:
        """Do something once, when somebody sleeps after the vendor has refused a submit."""

        def act(_: float) -> None:
            if self.vendor.refusals:
                self.on_sleep = None
                action()

        self.on_sleep = act

    def _open_store(self, _: str | None, *, upload_args: dict[str, Any] | None = None) -> ObjectStore:
        return ObjectStore(self.store.client, upload_args=upload_args)

    def context(self, *, new_try: bool = True) -> Any:
        self.process.dead = False
        self.tries += new_try
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=self.run_id,
            task_id="separate",
            map_index=-1,
            try_number=self.tries,
            max_tries=self.max_tries,
            xcom_push=self._push,
        )
        return {"ti": ti, "task_state_store": self.task_state, "outlet_events": {}}

    def _push(self, key: str, value: Any) -> None:
        self.xcom[key] = value

    def separate(self, **arguments: Any) -> VocalSeparationOperator:
        track = {"key": "one", "task_id": "t", "audio_id": "a"}
        return VocalSeparationOperator(
            task_id="separate", **{"track": track, "destination": DESTINATION, **arguments}
        )

    def batch(self, *keys: str, **arguments: Any) -> VocalSeparationBatchOperator:
        tracks = [{"key": key, "task_id": "t", "audio_id": key} for key in keys]
        return VocalSeparationBatchOperator(
            task_id="separate", **{"tracks": tracks, "destination": DESTINATION, "parallel": 1, **arguments}
        )

    def deferral(self, operator: Any, method: str = "execute", **kwargs: Any) -> TaskDeferred:
        """Run one leg of an operator that must defer, and return its deferral."""
        with pytest.raises(TaskDeferred) as deferred:
            getattr(operator, method)(self.context(new_try=method == "execute"), **kwargs)
        return deferred.value

    def resume(self, operator: Any, deferred: TaskDeferred, event: dict[str, Any]) -> Any:
        """Run the next leg of a deferred operator, with an event."""
        resumed = getattr(operator, deferred.method_name)
        return resumed(self.context(new_try=False), event=event, **(deferred.kwargs or {}))

    def wait(self, deferred: TaskDeferred) -> dict[str, Any]:
        """Run the trigger of a deferral, and return its event."""

        async def first_event() -> dict[str, Any]:
            async for event in deferred.trigger.run():
                return dict(event.payload)
            raise AssertionError("the trigger yielded no event")

        return asyncio.run(first_event())

    def finish(self, operator: Any, deferred: TaskDeferred) -> Any:
        """Wait and resume until an operator that has deferred returns."""
        for _ in range(MAX_LEGS):
            event = self.wait(deferred)
            try:
                return self.resume(operator, deferred, event)
            except TaskDeferred as again:
                deferred = again
        raise AssertionError(f"the operator still defers after {MAX_LEGS} legs")

    def run(self, operator: Any) -> Any:
        """Run a try of an operator through all of its legs, and return its result."""
        try:
            return operator.execute(self.context())
        except TaskDeferred as deferred:
            return self.finish(operator, deferred)

    def rows(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return the head of the run report, and its rows by track."""
        (key,) = [key for key in self.keys() if f"/runs/dag/{safe_key(self.run_id)}/separate/" in key]
        head, *rows = [json.loads(line) for line in self.store.get(BUCKET, key).decode().splitlines()]
        return head, {row["track"]: row for row in rows}

    def ledger_keys(self) -> list[str]:
        """Return the keys of all ledger entries."""
        return [key for key in self.keys() if "/ledger/" in key and key.endswith(".json")]

    def entries(self) -> dict[str, LedgerEntry]:
        """Return all ledger entries by the key of their track."""
        found = [LedgerEntry.model_validate_json(self.store.get(BUCKET, key)) for key in self.ledger_keys()]
        return {entry.track_key: entry for entry in found}

    def doubts(self) -> list[str]:
        """Return the keys of the tracks of which a submit may have been paid without an answer."""
        return [key for key, entry in self.entries().items() if entry.unanswered]

    def entry(self) -> LedgerEntry:
        """Return the only ledger entry."""
        (entry,) = self.entries().values()
        return entry

    def events(self) -> list[str]:
        """Return the names of the events in the only ledger entry's history."""
        return [event.event for event in self.entry().history]

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return [found.key for found in self.store.list_objects(BUCKET, "")]

    def delete(self, *fragments: str) -> None:
        """Delete the objects whose keys contain one of some fragments."""
        found = [key for key in self.keys() if any(fragment in key for fragment in fragments)]
        assert found, fragments
        assert list(self.store.delete(BUCKET, found)) == [(len(found), [])]

    def on_put(self, action: Callable[[dict[str, Any]], object]) -> None:
        """Call an action with the arguments of each PutObject, which it may change, before it is sent."""

        def act(params: dict[str, Any], **_: object) -> None:
            action(params)

        self._register("before-parameter-build.s3.PutObject", act)

    def manifest(self, uri: str) -> Manifest:
        return Manifest.from_json(self.store.get(*parse_s3_uri(uri)))
