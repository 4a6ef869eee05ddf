"""Operators that have tracks separated."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.callbacks.channel import callback_channel, callback_event, read_callbacks
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook, outcome_of
from airflow_provider_vocalsep.landing.land import check_destination
from airflow_provider_vocalsep.links.page import PageLink, track_page
from airflow_provider_vocalsep.links.stems import StemsLink, stems_url
from airflow_provider_vocalsep.observability.assets import emit_asset_event
from airflow_provider_vocalsep.observability.lineage import (
    Dataset,
    Lineage,
    LineageMixin,
    report_hook_lineage,
    stem_datasets,
)
from airflow_provider_vocalsep.operators._runtime import (
    LandingParts,
    Parts,
    assemble,
    check_choices,
    raise_for_airflow,
)
from airflow_provider_vocalsep.operators.reporting import Reporting
from airflow_provider_vocalsep.operators.vocal_separation_batch import VocalSeparationBatchOperator
from airflow_provider_vocalsep.operators.waiting import Wait
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.own_file import PreparedFile, prepare_file
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit, Submission, Submitter
from airflow_provider_vocalsep.separation.track_job import Separation, SeparationJob
from airflow_provider_vocalsep.separation.track_report import TrackReport
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError, wait_here
from airflow_provider_vocalsep.triggers.events import validate_event
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger

__all__ = ["VocalSeparationBatchOperator", "VocalSeparationOperator"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger import Event
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup


#: Seconds after a submit whose answer was lost for which its callback is waited for: a separation takes 1 to 3 minutes,
#: and how long vendors repeat a callback is not published.
ADOPTION_GRACE = 900.0

#: Seconds between looks for a callback in a worker that waits for it, ``deferrable=False``.
_LOOK_FOR_CALLBACK = 2.0


class VocalSeparationOperator(LineageMixin, BaseOperator):
    """
    Have one track separated and its stems landed in object storage.

    Submits the track, waits without holding a worker, lands the stems byte-verified and writes
    ``manifest.json`` last. What is paid for is written into a ledger first: a retry, a clear, a second DAG run
    or a lost worker attaches to the vendor's task and never pays again.

    Parts can be left out: without ``destination`` nothing is landed and the vendor's task is returned; with
    ``wait_for_completion=False`` too, right after the submit.

    Errors that a retry can mend raise as they are and are retried by Airflow; wrong arguments, a wrong key and
    an empty balance fail at once. Either way the message says what happens next.

    With ``outlets``, the asset event's ``extra`` is the manifest's summary, ``destination``, and ``new`` (1 if this task
    landed the track, 0 if it had landed before); an ``AssetAlias`` gets an event for the destination if it is new.

    :param track: The track: a mapping with ``key`` and either ``task_id`` and ``audio_id`` of a generated track or
        ``audio_url`` of an own file (``https://``, or ``s3://`` which is presigned for the vendor; at most 20 MB).
        Optional: ``title``, ``duration`` in seconds. (templated)
    :param separation_type: ``separate_vocal`` (vocals and instrumental), ``split_stem`` (up to twelve stems) or
        ``split_stem_advanced`` (the stem of ``stem_name``, and everything but it). (templated)
    :param stem_name: The stem for ``split_stem_advanced``, for example ``Lead Vocal``. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems land, as
        ``{track key}/{separation type}/{stem}.mp3``. (templated)
    :param ledger: ``s3://bucket/prefix`` of the ledger; ``{destination}/_vocalsep/ledger`` by default. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param wait_for_completion: Whether to wait for the vendor at all. Without it nothing is landed.
    :param deferrable: Whether to wait in the triggerer (no worker is held) or in the worker.
    :param poll_interval: Seconds between status reads; by default 30, and 300 as a safety net where the connection
        has callbacks switched on. (templated)
    :param timeout: Seconds from the submit until the wait is given up. The vendor's task goes on and stays in the
        ledger; a retry attaches to it. (templated)
    :param if_landed: ``skip`` returns the manifest of a track whose stems are there already; ``replace`` downloads
        and writes them again, from the task that is paid for. (templated)
    :param on_lost_submit: What to do about a submit whose answer was lost, so that it may or may not have been
        paid. With callbacks its vendor task is waited for and adopted first. When none comes, and without callbacks at
        once: ``adopt`` (default) never pays again but fails with the way out; a retry with ``resubmit`` submits
        anew, which may pay twice. ``fail`` does not wait. (templated)
    :param adoption_grace: Seconds after a submit whose answer was lost for which its callback is waited for.
        (templated)
    :param max_submissions: How often in a row this task instance pays for a track that the vendor accepts and
        then fails on. Refunded ones do not count.
    :param upload_args: Extra arguments of every upload, as boto3's ``put_object`` takes them, for example
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
        """What the track is called: pass ``map_index_template="{{ task.label }}"`` to ``partial`` to see it in the grid."""
        if isinstance(self.track, dict):
            return str(self.track.get("title") or self.track.get("key") or "")
        return str(self.track)

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the track, for :class:`~airflow_provider_vocalsep.links.page.PageLink`; it knows destinations."""
        return track_page(ti, str(self._track_key).strip()) if self.destination and self._track_key else ""

    @property
    def _track_key(self) -> Any:
        return self.track.get("key") if isinstance(self.track, dict) else None

    @cached_property
    def _reporting(self) -> Reporting:
        return Reporting()

    @cached_property
    def hook(self) -> VocalSeparationHook:
        """The hook of ``vocalsep_conn_id``."""
        return VocalSeparationHook(self.vocalsep_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Secure the separation, then wait, then land; whatever of it is done already is not done again."""
        with self._reporting.leg(context, str(self.separation_type)):
            try:
                return self._execute(context)
            except VocalSepError as e:
                raise_for_airflow(e, track_key=self._track_key)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        attempt_id: str = "",
        submitted_at: str | None = None,
    ) -> dict[str, Any]:
        """Land the stems, once the vendor has called back or the trigger has seen its task end."""
        with self._reporting.leg(context, str(self.separation_type)):
            try:
                return self._complete(context, event, attempt_id, submitted_at)
            except VocalSepError as e:
                raise_for_airflow(e, track_key=self._track_key)

    def _complete(
        self, context: Context, event: dict[str, Any] | None, attempt_id: str, submitted_at: str | None
    ) -> dict[str, Any]:
        outcome, vendor_task_id, message = validate_event(event)
        parts = self._parts(context)
        self._reads(parts, vendor_task_id)
        job = self._job(parts, PreparedFile(parts.track))
        since = datetime.fromisoformat(submitted_at) if submitted_at else datetime.now(tz=timezone.utc)
        secured = Submission(vendor_task_id, since, attempt_id=attempt_id)
        self._report(parts, job, secured)
        self._check_outcome(job, outcome, message)
        task = job.read_task(vendor_task_id)
        if task.finished or task.failed:
            return self._finish(parts, job, task)
        self._keep_callbacks(parts, job, attempt_id)
        self.log.warning("The record of vendor task %s says %s; waiting on.", vendor_task_id, task.status)
        return self._wait(parts, job, secured)

    def execute_adoption(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where a lost submit left off, once its callback has come or none is expected any more."""
        with self._reporting.leg(context, str(self.separation_type)):
            try:
                return self._execute(context, called_back_about=(event or {}).get("vendor_task_id"))
            except VocalSepError as e:
                raise_for_airflow(e, track_key=self._track_key)

    def _execute(self, context: Context, *, called_back_about: str | None = None) -> dict[str, Any]:
        parts = self._parts(context)
        if parts.landing:
            check_destination(parts.landing.s3_client, parts.landing.place, upload_args=self.upload_args)
        self._report(parts, self._job(parts, PreparedFile(parts.track)))
        job = self._job(parts, prepare_file(parts.track, parts.s3_client))
        secured = self._secure(parts, job, called_back_about)
        self._reads(parts, secured.vendor_task_id)
        self._report(parts, job, secured)
        self._keep_callbacks(parts, job, secured.attempt_id)
        context["ti"].xcom_push(key="vendor_task_id", value=secured.vendor_task_id)
        if parts.landing and secured.landed and self.if_landed == "skip":
            manifest = job.still_landed(parts.landing.s3_client, parts.landing.place)
            if manifest is not None:
                return self._landed(context, parts.landing, job, manifest)
        if not self.wait_for_completion:
            self.log.info(
                "Nobody waits for vendor task %s here: VocalSeparationSensor does, VocalSeparationToS3Operator lands it.",
                secured.vendor_task_id,
            )
            if self._reporting.report:
                self._reporting.report.waiting(concluded=True)
            return {"vendor_task_id": secured.vendor_task_id, "status": "SUBMITTED", "stems": {}}
        if not secured.submitted_now or read_callbacks(context, secured.attempt_id):
            # The vendor may be done already: one read here saves two process starts.
            task = self.hook.read_task(secured.vendor_task_id)
            if task is not None and (task.finished or task.failed):
                return self._finish(parts, job, task)
        return self._wait(parts, job, secured)

    def _secure(self, parts: Parts, job: SeparationJob, called_back_about: str | None) -> Submission:
        submitter = Submitter(
            job.separation,
            vendor=self.hook.client,
            ledger=parts.ledger,
            asked_by=parts.asked_by,
            manifest_uri=parts.landing.place.manifest_uri if parts.landing else None,
            on_lost_submit=OnLostSubmit(self.on_lost_submit),
            line=callback_channel(
                parts.context,
                self.hook.settings,
                conn_id=self.vocalsep_conn_id,
                asked_by=parts.asked_by,
                grace=float(self.adoption_grace),
                resumed_by=called_back_about,
            ),
        )
        try:
            return submitter.secure()
        except AwaitingCallback as awaited:
            self.log.warning("%s", awaited)
            until, lost = awaited.until.timestamp(), awaited.attempt_id
            if self.deferrable:
                self.defer(
                    trigger=LostSubmitTrigger(lost, until),
                    method_name="execute_adoption",
                    timeout=timedelta(seconds=max(0.0, until - time.time()) + 120),
                )
        while time.time() < until and not read_callbacks(parts.context, lost):
            time.sleep(_LOOK_FOR_CALLBACK)
        return submitter.secure()

    def _keep_callbacks(self, parts: Parts, job: SeparationJob, attempt_id: str) -> None:
        if read_callbacks(parts.context, attempt_id):
            job.keep_callbacks(self._heard(parts))

    @staticmethod
    def _heard(parts: Parts) -> CallbackLookup:
        def heard(attempt_id: str) -> list[Event]:
            callbacks = read_callbacks(parts.context, attempt_id)
            return [callback_event(callback, attempt_id, parts.asked_by) for callback in callbacks]

        return heard

    def _parts(self, context: Context) -> Parts:
        check_choices(self.if_landed, self.on_lost_submit)
        return assemble(
            context,
            track=Track.parse(self.track),
            separation_type=parse_separation_type(self.separation_type),
            stem_name=self.stem_name,
            destination=self.destination,
            ledger=self.ledger,
            aws_conn_id=self.aws_conn_id,
            upload_args=self.upload_args,
            settings=self.hook.settings,
        )

    def _job(self, parts: Parts, source: PreparedFile) -> SeparationJob:
        separation = Separation(
            asked=parts.track,
            track=source.track,
            separation_type=parts.separation_type,
            stem_name=self.stem_name,
            account=self.hook.settings.account,
            fingerprint=source.fingerprint,
        )
        return SeparationJob(
            separation,
            vendor=self.hook.client,
            ledger=parts.ledger,
            asked_by=parts.asked_by,
            max_submissions=self.max_submissions,
        )

    def _reads(self, parts: Parts, vendor_task_id: str) -> None:
        vendor = self.hook.settings.base_url
        audio = Dataset.of_track(parts.track, vendor)
        self.lineage = Lineage(inputs=(audio,), vendor=vendor, vendor_task_id=vendor_task_id)

    def _report(self, parts: Parts, job: SeparationJob, secured: Submission | None = None) -> None:
        """Begin the run report, or take note in it of what is paid for."""
        if parts.landing is None:
            return
        place = parts.landing.place
        file = ReportFile(
            parts.landing.s3_client,
            self.destination or "",
            parts.asked_by,
            place.separation_type,
            place.stem_name,
        )
        self._reporting.report = TrackReport(file, parts.track, job)
        if secured:
            self._reporting.report.secured(secured)

    def _wait(self, parts: Parts, job: SeparationJob, secured: Submission) -> dict[str, Any]:
        wait = Wait.plan(
            secured,
            timeout=float(self.timeout),
            poll_interval=self.poll_interval,
            deferrable=self.deferrable,
        )
        if self.deferrable:
            self.log.info("%s A retry attaches to the same task.", wait)
            if self.hook.settings.callback_base_url is None:
                self.log.info(
                    "To be woken by the vendor's callback instead, set callback_base_url and callback_secret in "
                    "connection %r.",
                    self.vocalsep_conn_id,
                )
            self.defer(
                trigger=wait.trigger(self.vocalsep_conn_id),
                method_name="execute_complete",
                kwargs={"attempt_id": secured.attempt_id, "submitted_at": secured.submitted_at.isoformat()},
                timeout=wait.airflow_timeout,
            )
        self.log.info(
            "Waiting for vendor task %s in this worker; its record is read every %g s. A retry attaches to it.",
            wait.vendor_task_id, wait.poll_interval,
        )  # fmt: skip
        if self._reporting.report:
            self._reporting.report.waiting()
        ended = wait_here(self.hook.read_task, wait.poller())
        self._check_outcome(job, ended.outcome, ended.message)
        return self._finish(parts, job, job.read_task(secured.vendor_task_id))

    def _check_outcome(self, job: SeparationJob, outcome: WaitOutcome, message: str) -> None:
        message = f"Track {self._track_key!r}: {message}"
        if outcome is WaitOutcome.CALLED_BACK:
            self.log.info("%s Reading its record.", message)
        if outcome in (WaitOutcome.GAVE_UP, WaitOutcome.UNKNOWN, WaitOutcome.REFUSED):
            job.wait_ended(message)
            raise (WaitGivenUpError if outcome is WaitOutcome.GAVE_UP else AirflowFailException)(message)

    def _finish(self, parts: Parts, job: SeparationJob, task: SeparationTask) -> dict[str, Any]:
        job.conclude(task, self._heard(parts))
        if parts.landing is None:
            return outcome_of(task)
        landing = parts.landing
        self.log.info("Vendor task %s is finished: landing its stems.", task.task_id)
        manifest = job.land(task, landing.lander, landing.place, replace=self.if_landed == "replace")
        own_file = self.lineage.inputs if parts.track.audio_url else ()
        report_hook_lineage(self.aws_conn_id, inputs=own_file, outputs=stem_datasets(manifest))
        return self._landed(parts.context, landing, job, manifest)

    def _landed(
        self, context: Context, landing: LandingParts, job: SeparationJob, manifest: Manifest
    ) -> dict[str, Any]:
        self.stems_link = stems_url(landing.s3_client, landing.place.bucket, landing.place.prefix)
        self.lineage = self.lineage.with_stems(manifest)
        self.log.info(
            "%d stems of track %r are at %s. Whoever asks for them again pays nothing.",
            len(manifest.stems), self.label, manifest.uri,
        )  # fmt: skip
        summary, new = manifest.summary(), int(job.is_ours(manifest))
        if self._reporting.report:
            self._reporting.report.landed(manifest, before=not new)
        emit_asset_event(self.outlets, context, self.destination or "", new=new, extra=summary)
        return summary
