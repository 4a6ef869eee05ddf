"""A vendor that counts what it charges, and a ledger with a clock of its own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import SubmitOutcomeUnknownError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import Ledger, MemoryLedgerStore, TaskInstanceRef
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit, Submitter
from airflow_provider_vocalsep.separation.track_job import Separation

if TYPE_CHECKING:
    from airflow_provider_vocalsep.separation.adoption import CallbackChannel

TRACK = Track(key="one", task_id="t", audio_id="a")
SEPARATION = Separation(TRACK, TRACK, SeparationType.SEPARATE_VOCAL, None, "sunoapi")
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="separate", try_number=1)
ME_AGAIN = ME.model_copy(update={"try_number": 2})
OTHER_RUN = ME.model_copy(update={"run_id": "r2"})


class Killed(BaseException):
    """The process ends here, as by SIGKILL: nothing in it can catch this."""


class FakeVendor:
    """Charges for every submit that it accepts; `answers` says what becomes of each, the rest is accepted."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.charges = 0
        self.calls = 0

    def submit(self, track, separation_type, *, stem_name=None, callback_url=None):
        self.callback_url = callback_url
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else "accept"
        if answer == "accept and lose":
            self.charges += 1
            raise SubmitOutcomeUnknownError("No answer came.")
        if answer == "accept and die":
            self.charges += 1
            raise Killed
        if isinstance(answer, BaseException):
            raise answer
        self.charges += 1
        return f"T{self.charges}"


class World:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=timezone.utc)
        self.store = MemoryLedgerStore()
        self.ledger = Ledger(self.store, now=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def secure(
        self,
        vendor: FakeVendor,
        asker: TaskInstanceRef = ME,
        policy: OnLostSubmit = OnLostSubmit.ADOPT,
        line: CallbackChannel | None = None,
    ):
        return Submitter(
            SEPARATION,
            vendor=vendor,
            ledger=self.ledger,
            asked_by=asker,
            on_lost_submit=policy,
            line=line,
            sleep=self.sleep,
        ).secure()

    @property
    def entry(self):
        return self.ledger.read(SEPARATION.identity)
