"""The operator that separates many tracks in one Airflow task."""

from __future__ import annotations

import re
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.vocabulary import CREDITS, SeparationType
from airflow_provider_vocalsep.catalogue.chunks import parse_tracks, read_chunk
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.landing.land import read_manifest
from airflow_provider_vocalsep.links.page import PageLink, run_page
from airflow_provider_vocalsep.links.stems import StemsLink
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.observability.assets import emit_asset_event
from airflow_provider_vocalsep.observability.lineage import BatchLineage, LineageMixin, report_hook_lineage
from airflow_provider_vocalsep.operators._runtime import Stoppable, airflow_errors, open_batch
from airflow_provider_vocalsep.operators.waiting import (
    airflow_timeout,
    deadline_of,
    number_or_none,
    poll_interval_of,
    utc_text,
)
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.separation.batch import PARALLEL, BatchJob
from airflow_provider_vocalsep.separation.batch_polling import LINGER, BatchPoller
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.runtime import Budget, OnLostSubmit
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.events import parse_batch_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.separation.polling import WaitOutcome

#: Seconds between two checks for callbacks in a worker that waits for them, ``deferrable=False``.
_CALLBACK_PAUSE = 2.0

#: Failed tracks that a message names; the report has them all.
_NAMED = 10


class BatchFailedError(VocalSepError):
    """More tracks of a batch failed than ``max_failed`` allows."""


class VocalSeparationBatchOperator(Stoppable, LineageMixin, BaseOperator):
    """
    Have hundreds of tracks separated and landed in one Airflow task.

    Submits at the vendor's rate, waits without holding a worker, and lands finished tracks in parallel. It
    resumes a handful of times, not once per track. Each track has an entry in the ledger that
    :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationOperator` uses, too: a retry
    of the batch does only what is missing and never pays again.

    A track that fails does not stop the others. The state of each is in the run report, JSON Lines below the
    destination (docs/audit.md); its address is returned.

    With ``outlets``, the asset event's ``extra`` holds ``destination``, ``separation_type``, ``new`` (tracks
    that this task landed), the counts and the ``report``; an ``AssetAlias`` gets an event for the destination
    if anything new landed.

    :param tracks: A list of tracks, as ``VocalSeparationOperator`` takes them, or the address of a chunk file
        that
        :class:`~airflow_provider_vocalsep.operators.catalogue.PlanCatalogueOperator` wrote. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems land. (templated)
    :param separation_type: What to separate each track into. (templated)
    :param stem_name: The stem for ``split_stem_advanced``. (templated)
    :param ledger: ``s3://bucket/prefix`` of the ledger; by default a folder of the destination. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param max_failed: Tracks that may fail without failing the Airflow task: a count, or below 1 a share.
        (templated)
    :param max_credits: Credits that this task may spend; tracks beyond are left and reported. (templated)
    :param deferrable: Whether to wait in the triggerer or in the worker.
    :param poll_interval: Seconds between status reads of a track; by default 30, and 300 as a safety net
        where the connection has callbacks switched on. (templated)
    :param linger: Seconds from the first ended track until the task resumes for all that have ended by then.
    :param timeout: Seconds from its submit until the wait for a track is given up. (templated)
    :param if_landed: ``skip`` or ``replace``, as for one track. (templated)
    :param on_lost_submit: What to do about submits whose answer was lost, as for one track. (templated)
    :param adoption_grace: Seconds after such a submit in which its callback may still come. (templated)
    :param max_submissions: How often this task pays for a track that the vendor accepts and then fails.
    :param parallel: Tracks that are submitted or landed at the same time.
    :param upload_args: Extra arguments of every upload, with the names of S3's ``PutObject``. (templated)
    :return: Counts (``tracks``, ``landed``, ``failed``, ``left``, ``before``, ``submits``, ``stems``,
        ``bytes``) and the address of the ``report``.
    """

    template_fields: Sequence[str] = (
        "tracks",
        "destination",
        "separation_type",
        "stem_name",
        "ledger",
        "vocalsep_conn_id",
        "aws_conn_id",
        "max_failed",
        "max_credits",
        "poll_interval",
        "timeout",
        "if_landed",
        "on_lost_submit",
        "adoption_grace",
        "upload_args",
    )
    template_fields_renderers = {"upload_args": "json"}
    operator_extra_links = (StemsLink(), PageLink())
    stems_link = ""
    ui_color = "#e4f0ff"

    def __init__(
        self,
        *,
        tracks: Sequence[Track | dict[str, Any]] | str,
        destination: str,
        separation_type: str = SeparationType.SEPARATE_VOCAL.value,
        stem_name: str | None = None,
        ledger: str | None = None,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        max_failed: float | str = 0,
        max_credits: float | str | None = None,
        deferrable: bool = True,
        poll_interval: float | str | None = None,
        linger: float = LINGER,
        timeout: float | str = 3600,
        if_landed: str = "skip",
        on_lost_submit: str = OnLostSubmit.ADOPT.value,
        adoption_grace: float | str = 900.0,
        max_submissions: int = 2,
        parallel: int = PARALLEL,
        upload_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tracks = tracks
        self.destination = destination
        self.separation_type = separation_type
        self.stem_name = stem_name
        self.ledger = ledger
        self.vocalsep_conn_id = vocalsep_conn_id
        self.aws_conn_id = aws_conn_id
        self.max_failed = max_failed
        self.max_credits = max_credits
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.linger = linger
        self.timeout = timeout
        self.if_landed = if_landed
        self.on_lost_submit = on_lost_submit
        self.adoption_grace = adoption_grace
        self.max_submissions = max_submissions
        self.parallel = parallel
        self.upload_args = upload_args

    @property
    def label(self) -> str:
        """Name of the batch, for ``partial(map_index_template="{{ task.label }}")``."""
        if not isinstance(self.tracks, str):
            return f"{len(self.tracks)} tracks"
        numbers = re.search(r"tracks-0*(\d+)-0*(\d+)\.jsonl$", self.tracks)
        return f"tracks {numbers[1]}–{numbers[2]}" if numbers else self.tracks.rsplit("/", 1)[-1]

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the DAG run, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return run_page(ti)

    @cached_property
    def hook(self) -> VocalSeparationHook:
        """The hook of ``vocalsep_conn_id``."""
        return VocalSeparationHook(self.vocalsep_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Start all tracks by their ledger entries, then wait for the vendor."""
        ti: Any = context["ti"]
        ti.xcom_push(key=PageLink.key, value=self.page(ti))
        with airflow_errors():
            job = self._open(context, resumed=False)
            job.check_destination()
            job.begin()
            return self._wait(context, job)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Land the tracks that have ended; wait for the others."""
        with airflow_errors():
            job = self._open(context, resumed=True)
            ended = parse_batch_event(event)
            what = f"{len(ended)} of them have ended" if ended else "the vendor has called back"
            self.log.info(
                "%d vendor tasks were waited for and %s: landing what is ready.", len(job.waiting), what
            )
            job.begin()  # only if the report is missing
            job.resume(ended)
            return self._wait(context, job)

    def _open(self, context: Context, *, resumed: bool) -> BatchJob:
        runtime = open_batch(self, context, parallel=self.parallel)
        tracks = parse_tracks(
            read_chunk(runtime.landing.store, self.tracks) if isinstance(self.tracks, str) else self.tracks
        )
        before = runtime.landing.report_file.read()
        if resumed and before is None:
            self.log.warning(
                "The run report %s is missing; reading the ledger instead.", runtime.landing.report_file.uri
            )
        report = before if resumed and before else BatchReport.of(tracks, before)
        runtime.budget = self._budget(report, CREDITS[runtime.options.separation_type])
        return BatchJob(tracks, report, runtime, parallel=self.parallel)

    def _budget(self, report: BatchReport, price: float) -> Budget:
        credits = number_or_none(self.max_credits)
        spent = price * sum(row.submits for row in report.rows.values())
        return Budget(None if credits is None else credits - spent, price)

    def _wait(self, context: Context, job: BatchJob) -> dict[str, Any]:
        """Defer, or wait in the worker, until every track has ended; then conclude."""
        if job.waiting and job.all_called_back():
            job.resume({})
        while job.waiting or job.report.rows_in(RowState.IN_DOUBT):
            job.runtime.landing.report_file.write(job.report)
            wait = self._plan_wait(job)
            if self.deferrable:
                self._defer(wait, job)
            job.resume(self._wait_here(job, BatchPoller(now=time.time(), **wait)))
        return self._conclude(context, job)

    def _plan_wait(self, job: BatchJob) -> dict[str, Any]:
        """Return the arguments of the poller, and of the trigger that runs it."""
        waiting, doubts = job.waiting, job.report.rows_in(RowState.IN_DOUBT)
        # The vendor calls back only the task instance that submitted a track.
        ours = all(row.calls_back for row in job.report.rows_in(RowState.WAITING))
        calls_back = job.runtime.callbacks.enabled and self.deferrable and ours
        last_submit = max(waiting.values(), default=time.time())
        return {
            "waiting": waiting,
            "deadline": deadline_of(last_submit, float(self.timeout)),
            "poll_interval": poll_interval_of(self.poll_interval, calls_back=calls_back),
            "linger": self.linger,
            "until": min((row.until.timestamp() for row in doubts if row.until), default=None),
            "read_at_once": not calls_back,
        }

    def _defer(self, wait: dict[str, Any], job: BatchJob) -> None:
        doubts = [row.attempt_id for row in job.report.rows_in(RowState.IN_DOUBT)]
        self.log.info(
            "Waiting for %d vendor tasks%s until %s; no worker is held. Stems land when all have ended, or "
            "%g s after the first has. A retry attaches to the same tasks.",
            len(wait["waiting"]),
            f" and the callbacks of {len(doubts)} submits whose answer was lost" if doubts else "",
            utc_text(wait["deadline"]),
            self.linger,
        )
        self.defer(
            trigger=BatchTrigger(**wait, vocalsep_conn_id=self.vocalsep_conn_id, in_doubt=doubts),
            method_name="execute_complete",
            timeout=airflow_timeout(wait["deadline"], wait["poll_interval"]),
        )

    def _wait_here(self, job: BatchJob, poller: BatchPoller) -> dict[str, tuple[WaitOutcome, str]]:
        self.log.info("Waiting for %d vendor tasks in this worker.", len(poller.submitted))
        now = SteadyClock()
        while not (job.doubt_called_back() or poller.is_over(now())):
            for task_id in poller.due(now()):
                try:
                    poller.on_record(task_id, job.runtime.vendor.read_task(task_id), now())
                except VocalSepError as e:
                    poller.on_error(task_id, e, now())
            job.runtime.pause(min(poller.sleep(now()), _CALLBACK_PAUSE))
        return poller.outcomes()

    def _conclude(self, context: Context, job: BatchJob) -> dict[str, Any]:
        """Write the report, and fail or return the counts."""
        report, file, ti = job.report, job.runtime.landing.report_file, context["ti"]
        failed = report.rows_in(RowState.FAILED)
        too_many = len(failed) > self._may_fail(len(report.rows))
        retried = too_many and not all(row.final for row in failed) and ti.try_number <= ti.max_tries
        # Clearing a batch that has ended retries all its failures, also final ones.
        report.concluded = not retried
        file.write(report)
        totals = report.totals()
        self.stems_link = job.runtime.landing.store.console_url(job.runtime.landing.destination)
        self._observe(job, totals)
        self.log.info(
            "%s. Another request for them pays only for what is missing. Report: %s",
            ", ".join(f"{count} {name}" for name, count in totals.items()),
            file.uri,
        )
        if job.out_of_credits:
            raise AirflowFailException(
                f"{totals['left']} tracks were left: {job.stopped} {totals['landed']} landed. Top the "
                f"account up and clear this task; nothing is paid twice. Report: {file.uri}"
            )
        if too_many:
            raise _batch_error(report, file.uri, retried=retried)
        extra = {"separation_type": job.runtime.options.separation_type.value, "report": file.uri, **totals}
        new = totals["landed"] - totals["before"]
        emit_asset_event(self.outlets, context, self.destination, new=new, extra=extra)
        return {**totals, "report": file.uri}

    def _observe(self, job: BatchJob, totals: dict[str, int]) -> None:
        """Report lineage and metrics."""
        runtime, tracks = job.runtime, list(job.tracks.values())

        def manifest_of(track: Track) -> Manifest | None:
            location = runtime.location_of(track)
            return read_manifest(runtime.landing.store, location) if location else None

        chunk = self.tracks if isinstance(self.tracks, str) else None
        vendor = self.hook.settings.base_url
        self.lineage = BatchLineage(job.report, tracks, chunk, self.destination, vendor, manifest_of)
        moved = self.lineage.summary()
        written = moved.outputs if totals["landed"] > totals["before"] else ()
        report_hook_lineage(self.aws_conn_id, inputs=moved.inputs, outputs=written)
        if job.report.concluded:
            kind = runtime.options.separation_type.value
            for name, state in (("failed", RowState.FAILED), ("left", RowState.LEFT)):
                metrics.count_unlanded(name, len(job.report.rows_in(state)), runtime.asked_by, kind)

    def _may_fail(self, tracks: int) -> float:
        limit = float(self.max_failed)
        return limit if limit >= 1 else limit * tracks


def _batch_error(report: BatchReport, uri: str, *, retried: bool) -> Exception:
    failed = report.rows_in(RowState.FAILED)
    named = "\n".join(f"  {row.track}: {row.message}" for row in failed[:_NAMED])
    more = f"\n  and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    then = (
        "A retry does only what is missing."
        if retried
        else "Clear this task to try only the failed ones again."
    )
    message = f"{len(failed)} of {len(report.rows)} tracks failed:\n{named}{more}\n{then} Report: {uri}"
    return BatchFailedError(message) if retried else AirflowFailException(message)
