"""The operator that separates one track."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook, outcome_of
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.links.page import PageLink, track_page
from airflow_provider_vocalsep.links.stems import StemsLink
from airflow_provider_vocalsep.observability.assets import emit_asset_event
from airflow_provider_vocalsep.observability.lineage import (
    Dataset,
    Lineage,
    LineageMixin,
    report_hook_lineage,
    stem_datasets,
)
from airflow_provider_vocalsep.operators._runtime import Stoppable, open_track, track_leg, write_report
from airflow_provider_vocalsep.operators.vocal_separation_batch import VocalSeparationBatchOperator
from airflow_provider_vocalsep.operators.waiting import Wait, airflow_timeout
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit
from airflow_provider_vocalsep.separation.submitting import Submission
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError, wait_here
from airflow_provider_vocalsep.triggers.events import validate_event
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger

__all__ = ["VocalSeparationBatchOperator", "VocalSeparationOperator"]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.separation.track_job import TrackJob

#: Seconds after a submit whose answer was lost in which its callback may still come: a separation takes 1 to
#: 3 minutes, and vendors do not publish how long they repeat a callback.
ADOPTION_GRACE = 900.0

#: Seconds between two checks for a callback in a worker that waits for it, ``deferrable=False``.
_CALLBACK_PAUSE = 2.0


class VocalSeparationOperator(Stoppable, LineageMixin, BaseOperator):
    """
    Have one track separated and its stems landed in object storage.

    Submits the track, waits without holding a worker, lands the stems byte-verified and writes
    ``manifest.json`` last. A ledger records each payment before it is made: a retry, a clear, a second DAG
    run or a lost worker attaches to the vendor's task and never pays again.

    Without ``destination`` nothing is landed, and the vendor's task is returned; with
    ``wait_for_completion=False`` as well, right after the submit.

    Airflow retries errors that may pass; wrong arguments, a wrong key and an empty balance fail at once.
    Every message says what to do next.

    With ``outlets``, the asset event's ``extra`` is the manifest's summary, ``destination``, and ``new`` (1
    if this task landed the track, 0 if it had landed before); an ``AssetAlias`` gets an event for the
    destination if it is new.

    :param track: The track: a mapping with ``key`` and either ``task_id`` and ``audio_id`` of a generated
        track or ``audio_url`` of an own file (``https://``, or ``s3://`` which is presigned for the vendor;
        at most 20 MB). Optional: ``title``, ``duration`` in seconds. (templated)
    :param separation_type: ``separate_vocal`` (vocals and instrumental), ``split_stem`` (up to twelve stems)
        or ``split_stem_advanced`` (the stem of ``stem_name``, and everything but it). (templated)
    :param stem_name: The stem for ``split_stem_advanced``, for example ``Lead Vocal``. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems land, as
        ``{track key}/{separation type}/{stem}.mp3``. (templated)
    :param ledger: ``s3://bucket/prefix`` of the ledger; by default a folder of the destination. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param wait_for_completion: Whether to wait for the vendor at all. Without it nothing is landed.
    :param deferrable: Whether to wait in the triggerer (no worker is held) or in the worker.
    :param poll_interval: Seconds between status reads; by default 30, and 300 as a safety net where the
        connection has callbacks switched on. (templated)
    :param timeout: Seconds from the submit until the wait is given up. The vendor's task continues and stays
        in the ledger; a retry attaches to it. (templated)
    :param if_landed: ``skip`` returns the manifest of a track whose stems are there already; ``replace``
        downloads and writes them again, from the task that is paid for. (templated)
    :param on_lost_submit: What to do about a submit whose answer was lost, so that it may have been paid.
        With callbacks the operator first waits for the one that names the vendor task, and adopts that task.
        If none comes, and without callbacks at once: ``adopt`` (default) never pays again, but fails and says
        what to do; with ``resubmit`` a retry submits again, which may pay twice. ``fail`` does not wait for a
        callback. (templated)
    :param adoption_grace: Seconds after a submit whose answer was lost in which its callback may still come.
        (templated)
    :param max_submissions: How often in a row this task instance pays for a track that the vendor accepts and
        then fails. Refunded submissions do not count.
    :param upload_args: Extra arguments of every upload, with the names of S3's ``PutObject``, for example
        ``ServerSideEncryption``, ``SSEKMSKeyId``, ``StorageClass``, ``Tagging``, ``ACL``. (templated)
    :return: With ``destination`` the manifest's summary (URIs, sizes, digests; a few kB), else a mapping with
        ``vendor_task_id``, ``status`` and the ``stems`` that the vendor offers.
    """

    template_fields: Sequence[str] = (
        "track",
        "separation_type",
        "stem_name",
        "destination",
        "ledger",
        "vocalsep_conn_id",
        "aws_conn_id",
        "if_landed",
        "on_lost_submit",
        "upload_args",
        "adoption_grace",
        "poll_interval",
        "timeout",
    )
    template_fields_renderers = {"track": "json", "upload_args": "json"}
    operator_extra_links = (StemsLink(), PageLink())
    stems_link = ""
    lineage: Lineage = Lineage()
    ui_color = "#e4f0ff"

    def __init__(
        self,
        *,
        track: Track | dict[str, Any],
        separation_type: str = SeparationType.SEPARATE_VOCAL.value,
        stem_name: str | None = None,
        destination: str | None = None,
        ledger: str | None = None,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | str | None = None,
        timeout: float | str = 3600,
        if_landed: str = "skip",
        on_lost_submit: str = OnLostSubmit.ADOPT.value,
        adoption_grace: float | str = ADOPTION_GRACE,
        max_submissions: int = 2,
        upload_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.track = track.model_dump(exclude_none=True) if isinstance(track, Track) else track
        self.separation_type = separation_type
        self.stem_name = stem_name
        self.destination = destination
        self.ledger = ledger
        self.vocalsep_conn_id = vocalsep_conn_id
        self.aws_conn_id = aws_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.if_landed = if_landed
        self.on_lost_submit = on_lost_submit
        self.adoption_grace = adoption_grace
        self.max_submissions = max_submissions
        self.upload_args = upload_args

    @property
    def label(self) -> str:
        """Name of the track, for ``partial(map_index_template="{{ task.label }}")``."""
        if isinstance(self.track, dict):
            return str(self.track.get("title") or self.track.get("key") or "")
        return str(self.track)

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the track, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return track_page(ti, str(self._track_key).strip()) if self.destination and self._track_key else ""

    @property
    def _track_key(self) -> Any:
        return self.track.get("key") if isinstance(self.track, dict) else None

    @cached_property
    def hook(self) -> VocalSeparationHook:
        """The hook of ``vocalsep_conn_id``."""
        return VocalSeparationHook(self.vocalsep_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Secure the separation, wait for it, land it; steps that are done already are not repeated."""
        with self._leg(context) as job:
            return self._separate(context, job)

    def execute_adoption(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Continue after a lost submit, once its callback has come or none is expected any more."""
        with self._leg(context, named=(event or {}).get("vendor_task_id")) as job:
            return self._separate(context, job)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        attempt_id: str = "",
        submitted_at: str | None = None,
    ) -> dict[str, Any]:
        """Land the stems, after the vendor has called back or the trigger has seen its task end."""
        with self._leg(context, check_destination=False) as job:
            outcome, vendor_task_id, message = validate_event(event)
            since = datetime.fromisoformat(submitted_at) if submitted_at else datetime.now(tz=timezone.utc)
            submission = Submission(vendor_task_id, since, attempt_id=attempt_id)
            job.resume(submission)
            self._record_lineage(job)
            self._raise_unless_ended(job, outcome, message)
            return self._land_or_wait(context, job, submission)

    def _leg(
        self, context: Context, *, named: str | None = None, check_destination: bool = True
    ) -> AbstractContextManager[TrackJob]:
        def open_job() -> TrackJob:
            return open_track(self, Track.parse(self.track), context, named=named)

        return track_leg(
            self, context, open_job, track_key=self._track_key, check_destination=check_destination
        )

    def _separate(self, context: Context, job: TrackJob) -> dict[str, Any]:
        secured = job.secure()
        if isinstance(secured, AwaitingCallback):
            secured = self._await_callback(job, secured)
        self._record_lineage(job)
        context["ti"].xcom_push(key="vendor_task_id", value=job.row.vendor_task_id)
        if isinstance(secured, Manifest):
            return self._finish(context, job, secured)
        if not self.wait_for_completion:
            self.log.info(
                "Not waiting for vendor task %s (wait_for_completion=False): VocalSeparationSensor waits, "
                "VocalSeparationToS3Operator lands.",
                secured.vendor_task_id,
            )
            return {"vendor_task_id": secured.vendor_task_id, "status": "SUBMITTED", "stems": {}}
        if secured.submitted_now and not job.called_back:
            return self._wait(context, job, secured)
        return self._land_or_wait(context, job, secured)  # one read here may save two process starts

    def _await_callback(self, job: TrackJob, awaiting: AwaitingCallback) -> Submission | Manifest:
        """Wait for the callback that names the vendor task of a lost submit, then secure again."""
        self.log.warning("%s", awaiting.message)
        until = awaiting.until.timestamp()
        if self.deferrable:
            self.defer(
                trigger=LostSubmitTrigger(awaiting.attempt_id, until),
                method_name="execute_adoption",
                timeout=timedelta(seconds=max(0.0, until - time.time()) + 120),
            )
        while time.time() < until and not job.runtime.callbacks.events_of(awaiting.attempt_id):
            job.runtime.pause(_CALLBACK_PAUSE)
        secured = job.secure()
        return self._await_callback(job, secured) if isinstance(secured, AwaitingCallback) else secured

    def _land_or_wait(self, context: Context, job: TrackJob, submission: Submission) -> dict[str, Any]:
        task = job.poll()
        if task is None:
            return self._wait(context, job, submission)
        if job.location is None:
            return outcome_of(task)
        self.log.info("Vendor task %s is finished: landing its stems.", task.task_id)
        manifest = job.land(task)
        own_file = self.lineage.inputs if job.track.audio_url else ()
        report_hook_lineage(self.aws_conn_id, inputs=own_file, outputs=stem_datasets(manifest))
        return self._finish(context, job, manifest)

    def _wait(self, context: Context, job: TrackJob, submission: Submission) -> dict[str, Any]:
        wait = Wait.plan(
            submission,
            timeout=float(self.timeout),
            poll_interval=self.poll_interval,
            deferrable=self.deferrable,
        )
        if self.deferrable:
            self._defer(wait, submission)
        self.log.info(
            "Waiting for vendor task %s in this worker, with a read every %g s. A retry attaches to it.",
            wait.vendor_task_id,
            wait.poll_interval,
        )
        write_report(job, concluded=False)
        ended = wait_here(job.runtime.vendor.read_task, wait.poller(), sleep=job.runtime.pause)
        self._raise_unless_ended(job, ended.outcome, ended.message)
        return self._land_or_wait(context, job, submission)

    def _defer(self, wait: Wait, submission: Submission) -> None:
        self.log.info("%s A retry attaches to the same task.", wait)
        if self.hook.settings.callback_base_url is None:
            self.log.info(
                "To resume as soon as the vendor calls back, set callback_base_url and callback_secret in "
                "connection %r.",
                self.vocalsep_conn_id,
            )
        self.defer(
            trigger=wait.trigger(self.vocalsep_conn_id),
            method_name="execute_complete",
            kwargs={
                "attempt_id": submission.attempt_id,
                "submitted_at": submission.submitted_at.isoformat(),
            },
            timeout=airflow_timeout(wait.deadline, wait.poll_interval),
        )

    def _raise_unless_ended(self, job: TrackJob, outcome: WaitOutcome, message: str) -> None:
        message = f"Track {job.track.key!r}: {message}"
        if outcome is WaitOutcome.CALLED_BACK:
            self.log.info("%s Reading its record.", message)
        if outcome in (WaitOutcome.GAVE_UP, WaitOutcome.UNKNOWN, WaitOutcome.REFUSED):
            job.stop_waiting(message)
            raise WaitGivenUpError(message)

    def _finish(self, context: Context, job: TrackJob, manifest: Manifest) -> dict[str, Any]:
        assert job.location  # noqa: S101 - it has landed
        self.stems_link = job.runtime.landing.store.console_url(job.location)
        self.lineage = self.lineage.with_stems(manifest)
        self.log.info(
            "%d stems of track %r are at %s. Another request for them pays nothing.",
            len(manifest.stems),
            self.label,
            manifest.uri,
        )
        summary = manifest.summary()
        emit_asset_event(
            self.outlets, context, self.destination or "", new=int(job.is_ours(manifest)), extra=summary
        )
        return summary

    def _record_lineage(self, job: TrackJob) -> None:
        vendor = self.hook.settings.base_url
        audio = Dataset.of_track(job.track, vendor)
        self.lineage = Lineage(inputs=(audio,), vendor=vendor, vendor_task_id=job.row.vendor_task_id)
