"""The runtime of one leg, shared by its tracks: account, ledger, object storage, the operator's options."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from airflow_provider_vocalsep.api.errors import StoppedError, VocalSepError
from airflow_provider_vocalsep.api.requests import PLACEHOLDER_CALLBACK_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.client.pace import Gate
    from airflow_provider_vocalsep.client.settings import AccountSettings
    from airflow_provider_vocalsep.landing.land import Lander
    from airflow_provider_vocalsep.ledger import Event, Ledger, TaskInstanceRef
    from airflow_provider_vocalsep.runs.report_file import ReportFile
    from airflow_provider_vocalsep.storage.location import Location, StemLocation
    from airflow_provider_vocalsep.storage.store import ObjectStore


class OnLostSubmit(str, Enum):
    """Policy for a submit whose answer was lost: it may have been paid."""

    ADOPT = "adopt"
    RESUBMIT = "resubmit"
    FAIL = "fail"


class Vendor(Protocol):
    """A vendor account, as ``client.blocking.VendorClient`` provides it."""

    settings: AccountSettings

    def submit(
        self,
        track: Track,
        separation_type: SeparationType,
        *,
        stem_name: str | None = None,
        callback_url: str = PLACEHOLDER_CALLBACK_URL,
    ) -> str:
        """Submit a track, once."""

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        """Read the record of a task, ``None`` if the vendor does not know it."""


class Callbacks(Protocol):
    """The callbacks of one task instance."""

    @property
    def enabled(self) -> bool:
        """Whether submits ask the vendor to call back."""

    def refresh(self) -> None:
        """Read the received callbacks again."""

    def url_of(self, attempt_id: str) -> str:
        """Return the address that the submit of an attempt gives to the vendor."""

    def events_of(self, attempt_id: str) -> Sequence[Event]:
        """Return the callbacks about an attempt, as events of the ledger's history."""

    def vendor_task_of(self, attempt_id: str) -> str | None:
        """Return the vendor task that the callback about an attempt names."""


class BudgetSpentError(VocalSepError):
    """The credits that a batch may spend are used up."""


class Budget:
    """
    The credits that a batch may spend.

    :param credits: ``None`` for no limit.
    :param price: Credits for one submission.
    """

    def __init__(self, credits: float | None = None, price: float = 0.0) -> None:
        self.left = credits
        self.price = price
        self._lock = threading.Lock()

    def take(self) -> None:
        """
        Reserve the price of one submission.

        :raises BudgetSpentError: not enough is left.
        """
        with self._lock:
            if self.left is None:
                return
            if self.left < self.price:
                raise BudgetSpentError("max_credits is used up; nothing was submitted.")
            self.left -= self.price


@dataclass(frozen=True)
class SeparationOptions:
    """
    The options of an operator, the same for all of its tracks.

    :param stem_name: The requested stem of ``split_stem_advanced``.
    :param replace: Land stems again that are in place.
    :param adoption_grace: Seconds after a submit whose answer was lost in which its callback may still come.
    :param max_submissions: How often in a row one task instance pays for a track that the vendor fails.
    """

    separation_type: SeparationType
    stem_name: str | None = None
    replace: bool = False
    on_lost_submit: OnLostSubmit = OnLostSubmit.ADOPT
    adoption_grace: float = 900.0
    max_submissions: int = 2


@dataclass(frozen=True)
class LandingTarget:
    """The destination of an operator, with the run report of its task instance."""

    store: ObjectStore
    destination: Location
    lander: Lander
    report_file: ReportFile


@dataclass(kw_only=True)
class LandingRuntime:
    """
    What landing needs, shared by the tracks of one leg.

    :param asked_by: The task instance and its try.
    :param target: ``None`` if the stems are not landed.
    :param stopped: Set when the Airflow task is to stop.
    """

    options: SeparationOptions
    asked_by: TaskInstanceRef
    vendor: Vendor
    target: LandingTarget | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def landing(self) -> LandingTarget:
        """The target, for an operator that has a destination."""
        assert self.target is not None  # noqa: S101 - see above
        return self.target

    def location_of(self, track: Track) -> StemLocation | None:
        """Return where the stems of a track land; ``None`` without a destination."""
        if self.target is None:
            return None
        options = self.options
        return self.target.destination.stems(track.key, options.separation_type, options.stem_name)


@dataclass(kw_only=True)
class Runtime(LandingRuntime):
    """
    What separating and landing need, shared by the tracks of one leg.

    :param store: The object store of own files; ``None`` if nothing is in S3.
    :param gate: Paces the submits of a batch; ``None`` for a single track.
    :param sleep: Waits, in seconds; by default until ``stopped`` is set, at most.
    """

    ledger: Ledger
    callbacks: Callbacks
    store: ObjectStore | None = None
    gate: Gate | None = None
    budget: Budget = field(default_factory=Budget)
    sleep: Callable[[float], None] | None = None

    def pause(self, seconds: float) -> None:
        """
        Wait.

        :raises StoppedError: the Airflow task is to stop.
        """
        (self.sleep or self.stopped.wait)(seconds)
        self.check_stopped()

    def check_stopped(self) -> None:
        """
        Make sure that the Airflow task goes on, before anything that costs money or time.

        :raises StoppedError: the Airflow task is to stop.
        """
        if self.stopped.is_set():
            raise StoppedError("The Airflow task was stopped. A retry continues from the ledger.")
