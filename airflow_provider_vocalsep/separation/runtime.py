"""What all tracks of one leg share: account, ledger, object storage, and the operator's options."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from airflow_provider_vocalsep.api.errors import VocalSepError
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
    """What to do when the answer to a submit was lost and it may have been paid."""

    ADOPT = "adopt"
    RESUBMIT = "resubmit"
    FAIL = "fail"


class Vendor(Protocol):
    """What a job needs of the vendor, as ``client.blocking.VendorClient`` has it."""

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
    """How the vendor calls one task instance back."""

    @property
    def enabled(self) -> bool:
        """Whether submits ask the vendor to call back."""

    def refresh(self) -> None:
        """Read again which callbacks have come."""

    def url_of(self, attempt_id: str) -> str:
        """Return the address that the submit of an attempt gives to the vendor."""

    def events_of(self, attempt_id: str) -> Sequence[Event]:
        """Return the callbacks that came for an attempt, as lines of the ledger's history."""

    def vendor_task_of(self, attempt_id: str) -> str | None:
        """Return the vendor task that a callback named for an attempt."""


class BudgetSpentError(VocalSepError):
    """The credits of this batch are used up."""


class Budget:
    """
    Credits that a batch may spend.

    :param credits: How many; ``None`` for any number.
    :param price: Credits that one submission costs.
    """

    def __init__(self, credits: float | None = None, price: float = 0.0) -> None:
        self.left = credits
        self.price = price
        self._lock = threading.Lock()

    def take(self) -> None:
        """
        Set the price of one submission aside.

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
    What an operator asks for, the same for all of its tracks.

    :param separation_type: What to separate each track into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param replace: Land stems again that are in place.
    :param on_lost_submit: What to do about a submit whose answer was lost.
    :param adoption_grace: Seconds after such a submit for which its callback is waited for.
    :param max_submissions: How often one task instance pays in a row for a track that the vendor fails on.
    """

    separation_type: SeparationType
    stem_name: str | None = None
    replace: bool = False
    on_lost_submit: OnLostSubmit = OnLostSubmit.ADOPT
    adoption_grace: float = 900.0
    max_submissions: int = 2


@dataclass(frozen=True)
class LandingTarget:
    """
    Where the stems and run reports of an operator go.

    :param store: The object store.
    :param destination: Where stems land.
    :param lander: What carries them there.
    :param report_file: The run report of the task instance.
    """

    store: ObjectStore
    destination: Location
    lander: Lander
    report_file: ReportFile


@dataclass
class Runtime:
    """
    Everything that the tracks of one leg share.

    :param options: What the operator asks for.
    :param asked_by: The task instance and its try.
    :param vendor: The vendor's client.
    :param ledger: Where paid separations are kept.
    :param callbacks: How the vendor calls back.
    :param store: The object store of own files; ``None`` if nothing lies in S3.
    :param target: Where stems land; ``None`` if they do not.
    :param gate: Paces the submits of a batch.
    :param budget: What a batch may spend.
    :param sleep: How to wait, in seconds.
    """

    options: SeparationOptions
    asked_by: TaskInstanceRef
    vendor: Vendor
    ledger: Ledger
    callbacks: Callbacks
    store: ObjectStore | None = None
    target: LandingTarget | None = None
    gate: Gate | None = None
    budget: Budget = field(default_factory=Budget)
    sleep: Callable[[float], None] = time.sleep

    @property
    def landing(self) -> LandingTarget:
        """Where stems land, for an operator that has a destination."""
        assert self.target is not None  # noqa: S101 - see above
        return self.target

    def location_of(self, track: Track) -> StemLocation | None:
        """Return where the stems of a track land; ``None`` without a destination."""
        if self.target is None:
            return None
        options = self.options
        return self.target.destination.stems(track.key, options.separation_type, options.stem_name)
