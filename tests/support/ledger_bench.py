"""A ledger with its own clock, and track jobs that use it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Event,
    Identity,
    Ledger,
    LedgerEntry,
    MemoryLedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit, Runtime, SeparationOptions
from airflow_provider_vocalsep.separation.track_job import TrackJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
    from airflow_provider_vocalsep.separation.submitting import Submission
    from tests.support.vendor import FakeVendor

TRACK = Track(key="one", task_id="t", audio_id="a")
IDENTITY = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", try_number=1)
ME_AGAIN = ME.model_copy(update={"try_number": 2})
OTHER_RUN = ME.model_copy(update={"run_id": "r2"})


class FakeCallbacks:
    """
    The callbacks of a task instance.

    :param enabled: Whether submits ask the vendor to call back.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.received: dict[str, str] = {}

    def refresh(self) -> None: ...

    def url_of(self, attempt_id: str) -> str:
        return f"https://airflow/{attempt_id}"

    def events_of(self, attempt_id: str) -> list[Event]:
        vendor_task_id = self.received.get(attempt_id)
        at = datetime(2026, 11, 23, tzinfo=timezone.utc)
        event = Event(at=at, event="called_back", attempt_id=attempt_id, vendor_task_id=vendor_task_id)
        return [event] if vendor_task_id else []

    def vendor_task_of(self, attempt_id: str) -> str | None:
        return self.received.get(attempt_id)


class LedgerBench:
    """Secures one track for any task instance and try, with one ledger."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=timezone.utc)
        self.store = MemoryLedgerStore()
        self.ledger = Ledger(self.store, now=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def job(
        self,
        vendor: FakeVendor,
        asked_by: TaskInstanceRef = ME,
        policy: OnLostSubmit = OnLostSubmit.ADOPT,
        callbacks: FakeCallbacks | None = None,
        *,
        track: Track = TRACK,
        sleep: Callable[[float], None] | None = None,
    ) -> TrackJob:
        options = SeparationOptions(SeparationType.SEPARATE_VOCAL, on_lost_submit=policy)
        return TrackJob(
            track,
            Runtime(
                options=options,
                asked_by=asked_by,
                vendor=vendor,
                ledger=self.ledger,
                callbacks=callbacks or FakeCallbacks(enabled=False),
                sleep=sleep or self.sleep,
            ),
        )

    def secure(
        self,
        vendor: FakeVendor,
        asked_by: TaskInstanceRef = ME,
        policy: OnLostSubmit = OnLostSubmit.ADOPT,
        callbacks: FakeCallbacks | None = None,
    ) -> Submission | Manifest | AwaitingCallback:
        return self.job(vendor, asked_by, policy, callbacks).secure()

    @property
    def entry(self) -> LedgerEntry:
        entry = self.ledger.read(IDENTITY)
        assert entry is not None
        return entry
