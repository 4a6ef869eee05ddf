"""The job of one track, from request to manifest, with its row in the run report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.codes import classify_task
from airflow_provider_vocalsep.api.errors import SeparationFailedError, VendorError, Verdict, VocalSepError
from airflow_provider_vocalsep.landing.land import check_destination, read_manifest, verify_landed
from airflow_provider_vocalsep.ledger import File, Identity, Landing, Outcome, TaskInstanceRef
from airflow_provider_vocalsep.runs.report import TrackRow
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.polling import UNKNOWN_TASK_CODES
from airflow_provider_vocalsep.separation.submitting import Submitter

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.separation.runtime import LandingRuntime, Runtime
    from airflow_provider_vocalsep.separation.submitting import Submission

log = logging.getLogger(__name__)


class UnknownTaskError(VocalSepError):
    """The vendor does not know a task that it accepted before."""

    retryable = False


class LandingJob:
    """
    Lands a vendor task that another task, or a program without this provider, has submitted.

    :param row: Its row in the run report.
    """

    def __init__(self, track: Track, runtime: LandingRuntime, row: TrackRow) -> None:
        self.track = track
        self.runtime = runtime
        self.row = row
        #: Where the stems land; ``None`` without a destination.
        self.location = runtime.location_of(track)

    def check_destination(self) -> None:
        """
        Check, before any payment, that stems can be written.

        :raises DestinationError: naming the bucket and the remedy.
        """
        if self.location:
            landing = self.runtime.landing
            check_destination(landing.store, self.location)

    def read_record(self, vendor_task_id: str) -> SeparationTask:
        """
        Read the vendor's record of a task.

        :raises UnknownTaskError: the vendor has none.
        """
        task = self.runtime.vendor.read_task(vendor_task_id)
        if task is None:
            raise UnknownTaskError(
                f"Track {self.track.key!r}: the vendor does not know task {vendor_task_id}. Check the id, "
                "and that the connection's key belongs to the account that submitted it; vendors keep stems "
                "for about 14 days."
            )
        return task

    def land(self, task: SeparationTask) -> Manifest:
        """
        Land the stems of a finished task.

        :param task: The vendor's record.
        :return: The manifest, written last.
        :raises VocalSepError: some stems did not land. The others stay; a retry lands the missing ones.
        """
        manifest = self._land_stems(task)
        self.row.record_landed(manifest, before=not self.is_ours(manifest))
        return manifest

    def count_money(self) -> None:
        """Copy what was paid into the row; here nothing is known of it."""

    def is_ours(self, manifest: Manifest) -> bool:
        """Return whether this task instance landed it, in any of its tries."""
        landed_by = TaskInstanceRef.model_validate(manifest.asked_by)
        return landed_by.instance == self.runtime.asked_by.instance

    def _land_stems(self, task: SeparationTask) -> Manifest:
        assert self.location  # noqa: S101 - nothing lands without a destination
        return self.runtime.landing.lander.land(
            task,
            self.location,
            track=self.track,
            dialect=self.runtime.vendor.settings.dialect.name,
            refresh=lambda: self.read_record(task.task_id),
            asked_by=self.runtime.asked_by.model_dump(exclude_none=True),
            entry=self.row.entry,
            expected_duration=self.track.duration,
            replace=self.runtime.options.replace,
        )


class TrackJob(LandingJob):
    """
    Takes one track from request to manifest. All state that matters is in the ledger.

    :param track: The track as the user wrote it.
    :param row: Its row in the run report; a new one by default.
    """

    runtime: Runtime

    def __init__(self, track: Track, runtime: Runtime, row: TrackRow | None = None) -> None:
        super().__init__(track, runtime, row or TrackRow.of(track))
        self.ledger = runtime.ledger
        self.identity = Identity.of(
            track,
            account=runtime.vendor.settings.account,
            separation_type=runtime.options.separation_type,
            stem_name=runtime.options.stem_name,
        )
        self.row.entry = self.ledger.uri_of(self.identity)
        #: Whether a callback about the attempt has come.
        self.called_back = False

    def secure(self) -> Submission | Manifest | AwaitingCallback:
        """
        Pay for the separation once.

        :return: The vendor task to wait for; or the manifest, if the stems are in place; or the callback to
            wait for, if the answer to the submit was lost.
        :raises LostSubmitError: a submit may have been paid; ``on_lost_submit`` forbids another.
        :raises VocalSepError: nothing was paid.
        """
        manifest_uri = self.location.manifest_uri if self.location else None
        secured = Submitter(self.track, self.identity, self.runtime, manifest_uri=manifest_uri).secure()
        if isinstance(secured, AwaitingCallback):
            self.row.record_in_doubt(secured.attempt_id, secured.until, secured.message)
            return secured
        self.resume(secured)
        self.called_back = bool(self.runtime.callbacks.events_of(secured.attempt_id))
        if self.called_back:
            self._record_callbacks()
        if secured.landed and not self.runtime.options.replace:
            return self._find_landed() or secured
        return secured

    def resume(self, submission: Submission) -> None:
        """Continue with a separation that is paid for."""
        self.row.record_submitted(
            submission.vendor_task_id,
            submission.attempt_id,
            submission.submitted_at,
            submitted_now=submission.submitted_now,
            calls_back=submission.calls_back,
        )

    def poll(self) -> SeparationTask | None:
        """
        Read the vendor's record once; record the end of the separation.

        :return: The record of a finished task; ``None`` if the task has not ended, or is not visible yet.
        :raises SeparationFailedError: the vendor could not separate the track.
        """
        vendor_task_id = self.row.vendor_task_id or ""
        try:
            task = self.runtime.vendor.read_task(vendor_task_id)
        except VendorError as e:
            if e.retryable and e.code not in UNKNOWN_TASK_CODES:
                raise
            # What is paid is not given up for one answer: the poller decides whether it persists.
            log.warning("Track %r is paid for, and its record was refused: %s", self.track.key, e)
            return None
        if task is not None and task.finished:
            events_of = self.runtime.callbacks.events_of
            self.ledger.record_separated(
                self.identity, vendor_task_id, self.runtime.asked_by, events_of, status=task.status.value
            )
            return task
        if task is not None and task.failed:
            self._record_callbacks()
            self._raise_failure(task)
        if self.runtime.callbacks.events_of(self.row.attempt_id):
            self._record_callbacks()
        log.info("Vendor task %s has not ended yet: %s.", vendor_task_id, task.status if task else "unknown")
        return None

    def stop_waiting(self, message: str) -> None:
        """Record that the wait ended while the vendor's task may continue."""
        self._append_event("wait_ended", message)

    def count_money(self) -> None:
        """Copy what was paid into the row, from the ledger: it has also what a killed try paid."""
        self.row.paid, self.row.credits = self.ledger.paid_by(self.identity, self.runtime.asked_by)

    def _find_landed(self) -> Manifest | None:
        """Return the manifest, and record it, if the stems are where the ledger says."""
        assert self.location  # noqa: S101 - the ledger names it
        store = self.runtime.landing.store
        manifest = read_manifest(store, self.location)
        missing = verify_landed(store, manifest) if manifest else ["manifest.json"]
        if manifest is None or missing:
            log.warning(
                "Track %r landed before, but this is missing or changed: %s. Landing it again; nothing is "
                "paid.",
                self.track.key,
                ", ".join(missing),
            )
            return None
        log.info("Track %r landed before: nothing to do, nothing paid.", self.track.key)
        self._append_event("skipped")
        self.row.record_landed(manifest, before=not self.is_ours(manifest))
        return manifest

    def _land_stems(self, task: SeparationTask) -> Manifest:
        """Land the stems of a finished task, and record them in the ledger."""
        try:
            manifest = super()._land_stems(task)
        except VocalSepError as e:
            self._append_event("landing_failed", str(e))
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
        self.ledger.record_landed(self.identity, manifest.uri, landing, self.runtime.asked_by, files)
        return manifest

    def _record_callbacks(self) -> None:
        self.ledger.record_callbacks(self.identity, self.runtime.callbacks.events_of)

    def _append_event(self, event: str, message: str | None = None) -> None:
        self.ledger.append_event(self.identity, event, by=self.runtime.asked_by, message=message)

    def _raise_failure(self, task: SeparationTask) -> None:
        verdict = classify_task(task, self.runtime.vendor.settings.dialect)
        paid = self.ledger.count_failed_submissions(self.identity, self.runtime.asked_by, task.task_id)
        exhausted = verdict is not Verdict.REFUNDED and paid >= self.runtime.options.max_submissions
        if exhausted:
            next_step = (
                f"It failed {paid} times in a row (max_submissions); clear this Airflow task to pay again."
            )
        elif verdict is Verdict.FATAL:
            next_step = "It would fail the same way again; correct the source, then clear this Airflow task."
        elif verdict is Verdict.REFUNDED:
            next_step = "Its credits were given back; a retry submits it again."
        else:
            next_step = "A retry submits it again, which is charged again."
        said = f"{task.error_code or task.status}: {task.error_message or 'no reason given'}"
        error = SeparationFailedError(
            f"The vendor could not separate track {self.track.key!r} (task {task.task_id}, {said}). "
            f"{next_step}",
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
        self.ledger.record_task_failed(self.identity, task.task_id, outcome, status=task.status.value)
        raise error
