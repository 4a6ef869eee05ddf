"""One separation: what is asked for, and how its end is written down and its stems are landed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from airflow_provider_vocalsep.api.codes import classify_task
from airflow_provider_vocalsep.api.errors import SeparationFailedError, Verdict, VocalSepError
from airflow_provider_vocalsep.api.requests import PLACEHOLDER_CALLBACK_URL
from airflow_provider_vocalsep.landing.land import read_manifest, verify_landed
from airflow_provider_vocalsep.ledger import File, Identity, Landing, Outcome, TaskInstanceRef

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.client.settings import AccountSettings
    from airflow_provider_vocalsep.landing.land import Lander
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger import Ledger
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup
    from airflow_provider_vocalsep.storage.location import StemLocation
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)


class UnknownTaskError(VocalSepError):
    """The vendor does not know a task that it accepted before."""

    retryable = False


class Vendor(Protocol):
    """What a job needs of the vendor; :class:`~airflow_provider_vocalsep.client.blocking.VendorClient` is one."""

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
        """Read the record of a task."""


@dataclass(frozen=True)
class Separation:
    """
    What is asked for.

    :param asked: The track as the user wrote it.
    :param track: The track as it is sent, its own file at an address that the vendor can fetch.
    :param separation_type: What to separate it into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param account: The vendor account that pays.
    :param fingerprint: Version of the audio, see :class:`~airflow_provider_vocalsep.separation.own_file.Source`.
    """

    asked: Track
    track: Track
    separation_type: SeparationType
    stem_name: str | None
    account: str
    fingerprint: str = ""

    @cached_property
    def identity(self) -> Identity:
        """What is paid for once."""
        return Identity.of(
            self.asked,
            account=self.account,
            separation_type=self.separation_type,
            stem_name=self.stem_name,
        )


class SeparationJob:
    """
    Takes a separation that is paid for to its end. Holds no state of its own: whatever matters is in the ledger.

    :param separation: What is separated.
    :param vendor: The vendor's client.
    :param ledger: Where paid separations are kept.
    :param asked_by: Who asks.
    :param max_submissions: How often one task instance pays in a row for a track that the vendor fails on.
    """

    def __init__(
        self,
        separation: Separation,
        *,
        vendor: Vendor,
        ledger: Ledger,
        asked_by: TaskInstanceRef,
        max_submissions: int = 2,
    ) -> None:
        self.separation = separation
        self.vendor = vendor
        self.ledger = ledger
        self.asked_by = asked_by
        self.max_submissions = max_submissions

    @property
    def entry(self) -> str:
        """Address of its ledger entry."""
        return self.ledger.uri_of(self.separation.identity)

    def conclude(self, task: SeparationTask, heard: CallbackLookup) -> None:
        """
        Write down how the vendor ended a task.

        :param task: The vendor's record.
        :param heard: Tells the callbacks that came for an attempt.
        :raises SeparationFailedError: the vendor gave it up.
        """
        if task.failed:
            self.keep_callbacks(heard)
            self._raise_failure(task)
        self.ledger.record_separated(
            self.separation.identity, task.task_id, self.asked_by, heard, status=task.status.value
        )

    def keep_callbacks(self, heard: CallbackLookup) -> None:
        """Write callbacks down that are not in the history yet."""
        self.ledger.record_callbacks(self.separation.identity, heard)

    def land(
        self, task: SeparationTask, lander: Lander, place: StemLocation, *, replace: bool = False
    ) -> Manifest:
        """
        Land the stems of a finished task and write down where they are.

        :param task: The vendor's record.
        :param lander: What carries the stems.
        :param place: Where they belong.
        :param replace: Send stems again that are there already.
        :return: The manifest, written last.
        :raises VocalSepError: some stems did not land. What landed stays, and a retry goes on from there.
        """
        try:
            manifest = lander.land(
                task,
                place,
                track=self.separation.asked,
                dialect=self.vendor.settings.dialect.name,
                refresh=lambda: self.read_task(task.task_id),
                asked_by=self.asked_by.model_dump(exclude_none=True),
                entry=self.entry,
                expected_duration=self.separation.asked.duration,
                replace=replace,
            )
        except VocalSepError as e:
            self.ledger.append_event(
                self.separation.identity, "landing_failed", by=self.asked_by, message=str(e)
            )
            raise
        landing = Landing(
            at=self.ledger.now(),
            vendor_task_id=task.task_id,
            stems=len(manifest.stems),
            bytes=sum(stem.bytes for stem in manifest.stems),
        )
        files = tuple(
            File(name=stem.name, uri=stem.uri, bytes=stem.bytes, sha256=stem.sha256)
            for stem in manifest.stems
        )
        self.ledger.record_landed(self.separation.identity, manifest.uri, landing, self.asked_by, files)
        return manifest

    def wait_ended(self, message: str) -> None:
        """Write down that the wait was given up while the vendor's task may go on."""
        self.ledger.append_event(self.separation.identity, "wait_ended", by=self.asked_by, message=message)

    def paid(self) -> tuple[int, float]:
        """Return how many submissions the task instance that asks has paid for in all its tries, and their credits."""
        return self.ledger.paid_by(self.separation.identity, self.asked_by)

    def is_ours(self, manifest: Manifest) -> bool:
        """Tell whether the task instance that asks is the one that landed it, in this try or an earlier one."""
        return TaskInstanceRef.model_validate(manifest.asked_by).instance == self.asked_by.instance

    def still_landed(self, store: ObjectStore, place: StemLocation) -> Manifest | None:
        """
        Look whether the stems are where the ledger says, and write down that there was nothing to do.

        :return: Their manifest, ``None`` if they have to be landed again.
        """
        manifest = read_manifest(store, place)
        missing = verify_landed(store, manifest) if manifest else ["manifest.json"]
        if missing:
            log.warning(
                "Track %r landed before, but this is missing or changed: %s. Landing it again; nothing is paid.",
                self.separation.asked.key,
                ", ".join(missing),
            )
            return None
        log.info("Track %r landed before: nothing to do, nothing paid.", self.separation.asked.key)
        self.ledger.append_event(self.separation.identity, "skipped", by=self.asked_by)
        return manifest

    def read_task(self, vendor_task_id: str) -> SeparationTask:
        """
        Read the vendor's record of a task that it is known to have.

        :raises VocalSepError: when it has no record, or none that can be read.
        """
        task = self.vendor.read_task(vendor_task_id)
        if task is None:
            raise UnknownTaskError(
                f"Track {self.separation.asked.key!r}: the vendor no longer knows task {vendor_task_id}. Check that the "
                "connection's key belongs to the account that submitted it; vendors keep stems for about 14 days."
            )
        return task

    def _raise_failure(self, task: SeparationTask) -> None:
        verdict = classify_task(task, self.vendor.settings.dialect)
        paid = self.ledger.count_failed_submissions(self.separation.identity, self.asked_by, task.task_id)
        exhausted = verdict is not Verdict.REFUNDED and paid >= self.max_submissions
        if exhausted:
            next_step = (
                f"It failed {paid} times in a row (max_submissions); clear this Airflow task to pay again."
            )
        elif verdict is Verdict.FATAL:
            next_step = "It would fail the same way again; mend the source, then clear this Airflow task."
        elif verdict is Verdict.REFUNDED:
            next_step = "Its credits were given back; a retry submits it anew."
        else:
            next_step = "A retry submits it anew, which is charged again."
        said = f"{task.error_code or task.status}: {task.error_message or 'no reason given'}"
        error = SeparationFailedError(
            f"The vendor could not separate track {self.separation.asked.key!r} (task {task.task_id}, {said}). {next_step}",
            verdict=Verdict.FATAL if exhausted else verdict,
            code=task.error_code,
            vendor_message=task.error_message or "",
        )
        outcome = Outcome(
            at=self.ledger.now(),
            verdict=verdict,
            code=task.error_code,
            message=str(error),
            final=error.verdict is Verdict.FATAL,
        )
        self.ledger.record_task_failed(
            self.separation.identity, task.task_id, outcome, status=task.status.value
        )
        raise error
