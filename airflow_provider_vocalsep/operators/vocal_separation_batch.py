"""The operator that has many tracks separated in one Airflow task."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.catalogue.errors import CatalogueError
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.landing.land import read_manifest
from airflow_provider_vocalsep.links.page import PageLink, run_page
from airflow_provider_vocalsep.links.stems import StemsLink, stems_url
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.observability.assets import emit_asset_event
from airflow_provider_vocalsep.observability.lineage import BatchLineage, LineageMixin, report_hook_lineage
from airflow_provider_vocalsep.operators._runtime import check_choices, raise_for_airflow
from airflow_provider_vocalsep.operators.batch_parts import BatchParts, read_chunk
from airflow_provider_vocalsep.operators.waiting import number_or_none, poll_interval_of
from airflow_provider_vocalsep.runs.report import BatchReport, RowState
from airflow_provider_vocalsep.separation.batch import PARALLEL, BatchJob
from airflow_provider_vocalsep.separation.batch_polling import LINGER, BatchPoller
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit
from airflow_provider_vocalsep.triggers.batch import BatchTrigger
from airflow_provider_vocalsep.triggers.events import InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

#: Seconds between looks for callbacks in a worker that waits for them, ``deferrable=False``.
_LOOK_FOR_CALLBACKS = 2.0

#: Failed tracks that a message names; the report has them all.
_NAMED = 10


class BatchFailedError(VocalSepError):
    """More tracks of a batch failed than it was told to put up with."""


class VocalSeparationBatchOperator(LineageMixin, BaseOperator):
    """
    Have hundreds of tracks separated and landed in one Airflow task.

    Submits in the vendor's pace, waits without holding a worker, and lands what is ready side by side; it is resumed a
    handful of times, not once per track. Every track has its entry in the same ledger as
    :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationOperator` uses: a retry of the batch does
    only what is missing and never pays again.

    A track that fails does not stop the others. What became of each is in the run report, JSON Lines under
    ``{destination}/_vocalsep/runs/{dag}/{run}/{task}/{map index}.jsonl``.

    With ``outlets``, the asset event's ``extra`` holds ``destination``, ``separation_type``, ``new`` (tracks that this task
    landed), the counts and the ``report``; an ``AssetAlias`` gets an event for the destination if anything new landed.

    :param tracks: A list of tracks, as ``VocalSeparationOperator`` takes them, or the address of a chunk file that
        :class:`~airflow_provider_vocalsep.operators.catalogue.PlanCatalogueOperator` wrote. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems land. (templated)
    :param separation_type: What to separate each track into. (templated)
    :param stem_name: The stem for ``split_stem_advanced``. (templated)
    :param ledger: ``s3://bucket/prefix`` of the ledger; ``{destination}/_vocalsep/ledger`` by default. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param max_failed: Tracks that may fail without failing the Airflow task: a count, or below 1 a share. (templated)
    :param max_credits: Credits that this task may spend; tracks beyond are left and reported. (templated)
    :param deferrable: Whether to wait in the triggerer or in the worker.
    :param poll_interval: Seconds between status reads of a track; by default 30, and 300 as a safety net where the
        connection has callbacks switched on. (templated)
    :param linger: Seconds for which ended tracks gather before the task is resumed for them.
    :param timeout: Seconds from its submit until the wait for a track is given up. (templated)
    :param if_landed: ``skip`` or ``replace``, as for one track. (templated)
    :param on_lost_submit: What to do about submits whose answer was lost, as for one track. (templated)
    :param adoption_grace: Seconds after such a submit for which its callback is waited for. (templated)
    :param max_submissions: How often this task pays for a track that the vendor accepts and then fails on.
    :param parallel: Tracks that are submitted or landed at the same time.
    :param upload_args: Extra arguments of every upload, as boto3's ``put_object`` takes them. (templated)
    :return: Counts (``tracks``, ``landed``, ``failed``, ``left``, ``before``, ``submits``, ``stems``, ``bytes``) and the
        address of the ``report``.
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
        """What the batch is called: pass ``map_index_template="{{ task.label }}"`` to ``partial`` to see it in the grid."""
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
        """Go through all tracks by what the ledger says of each, then wait for those that the vendor has."""
        ti: Any = context["ti"]
        ti.xcom_push(key=PageLink.key, value=self.page(ti))
        try:
            parts = self._parts(context)
            job = self._job(parts, BatchReport.of(parts.tracks, parts.read_report()))
            if parts.tracks:
                parts.check_destination()
            job.begin()
            return self._go_on(context, parts, job)
        except VocalSepError as e:
            raise_for_airflow(e)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Land what has ended; wait for the rest."""
        try:
            parts = self._parts(context)
            report = parts.read_report()
            if report is None:
                self.log.warning("The run report %s is gone; going by the ledger.", parts.report_uri)
                job = self._job(parts, BatchReport.of(parts.tracks))
                job.begin()
            else:
                job, ended = self._job(parts, report), _ended(event)
                what = f"{len(ended)} of them have ended" if ended else "the vendor has called back"
                self.log.info(
                    "%d vendor tasks were waited for and %s: landing what is ready.", len(job.waiting), what
                )
                job.resume(ended)
            return self._go_on(context, parts, job)
        except VocalSepError as e:
            raise_for_airflow(e)

    def _go_on(self, context: Context, parts: BatchParts, job: BatchJob) -> dict[str, Any]:
        if job.waiting and parts.has_heard_of_all(job):
            job.resume({})
        while job.waiting or job.report.rows_in(RowState.IN_DOUBT):
            parts.write_report(job.report)
            sweep = self._sweep(parts, job)
            if self.deferrable:
                self._park(sweep, job)
            job.resume(self._watch(parts, job, BatchPoller(now=time.time(), **sweep)))
        return self._conclude(context, parts, job)

    def _sweep(self, parts: BatchParts, job: BatchJob) -> dict[str, Any]:
        waiting, doubts = job.waiting, job.report.rows_in(RowState.IN_DOUBT)
        # Of what another DAG run submitted, that one hears: then all are read as if nobody called back.
        told = all(row.calls_back for row in job.report.rows_in(RowState.WAITING))
        now, calls_back = time.time(), parts.calls_back and self.deferrable and told
        deadline = max(waiting.values(), default=now) + float(self.timeout)
        return {
            "waiting": waiting,
            "deadline": deadline if deadline > now else now + float(self.timeout),
            "poll_interval": poll_interval_of(self.poll_interval, calls_back=calls_back),
            "linger": self.linger,
            "until": min((row.until.timestamp() for row in doubts if row.until), default=None),
            "read_at_once": not calls_back,
        }

    def _park(self, sweep: dict[str, Any], job: BatchJob) -> None:
        doubts = [row.attempt_id for row in job.report.rows_in(RowState.IN_DOUBT)]
        until = datetime.fromtimestamp(sweep["deadline"], tz=timezone.utc).isoformat(timespec="seconds")
        self.log.info(
            "Waiting for %d vendor tasks%s until %s; no worker is held. Stems land when all have ended, or %g s after the "
            "first of those that have. A retry attaches to the same ones.",
            len(sweep["waiting"]),
            f" and the callbacks of {len(doubts)} submits whose answer was lost" if doubts else "",
            until,
            self.linger,
        )
        self.defer(
            trigger=BatchTrigger(**sweep, vocalsep_conn_id=self.vocalsep_conn_id, in_doubt=doubts),
            method_name="execute_complete",
            timeout=timedelta(seconds=sweep["deadline"] - time.time() + sweep["poll_interval"] + 60),
        )

    def _watch(
        self, parts: BatchParts, job: BatchJob, sweep: BatchPoller
    ) -> dict[str, tuple[WaitOutcome, str]]:
        """Wait here, in the worker."""
        self.log.info("Waiting for %d vendor tasks in this worker.", len(sweep.submitted))
        now = SteadyClock()
        while not (parts.has_heard_of_a_doubt(job) or sweep.is_over(now())):
            for task_id in sweep.due(now()):
                try:
                    sweep.on_record(task_id, self.hook.read_task(task_id), now())
                except VocalSepError as e:
                    sweep.on_error(task_id, e, now())
            time.sleep(min(sweep.sleep(now()), _LOOK_FOR_CALLBACKS))
        return sweep.outcomes()

    def _conclude(self, context: Context, parts: BatchParts, job: BatchJob) -> dict[str, Any]:
        report, ti = job.report, context["ti"]
        failed = report.rows_in(RowState.FAILED)
        too_many = len(failed) > self._may_fail(len(report.rows))
        retried = too_many and not all(row.final for row in failed) and ti.try_number <= ti.max_tries
        # Whoever runs a batch again that has ended wants its failures tried again, those for good too.
        report.concluded = not retried
        parts.write_report(report)
        totals = report.totals()
        self.stems_link = stems_url(parts.s3_client, *parts.bucket_and_prefix)
        self._tell(parts, report)
        self.log.info(
            "%s. Whoever asks for them again pays only for what is missing. Report: %s",
            ", ".join(f"{n} {name}" for name, n in totals.items()),
            parts.report_uri,
        )
        if job.out_of_credits:
            raise AirflowFailException(
                f"{totals['left']} tracks were left: {job.stopped} {totals['landed']} landed. Top the account up and clear "
                f"this task; nothing is paid twice. Report: {parts.report_uri}"
            )
        if too_many:
            raise _failure(report, parts.report_uri, retried=retried)
        extra = {"separation_type": parts.separation_type.value, "report": parts.report_uri, **totals}
        emit_asset_event(
            self.outlets, context, self.destination, new=totals["landed"] - totals["before"], extra=extra
        )
        return {**totals, "report": parts.report_uri}

    def _tell(self, parts: BatchParts, report: BatchReport) -> None:
        """Tell the readers of metrics and of lineage."""
        self.lineage = BatchLineage(
            report,
            tracks=parts.tracks,
            chunk=self.tracks if isinstance(self.tracks, str) else None,
            destination=self.destination,
            vendor=self.hook.settings.base_url,
            read_manifest=lambda track: read_manifest(parts.s3_client, parts.place(track)),
        )
        moved, totals = self.lineage.summary(), report.totals()
        written = moved.outputs if totals["landed"] > totals["before"] else ()
        report_hook_lineage(self.aws_conn_id, inputs=moved.inputs, outputs=written)
        if report.concluded:
            for name, state in (("failed", RowState.FAILED), ("left", RowState.LEFT)):
                metrics.count_unlanded(
                    name, len(report.rows_in(state)), parts.asked_by, str(parts.separation_type)
                )

    def _may_fail(self, tracks: int) -> float:
        limit = float(self.max_failed)
        return limit if limit >= 1 else limit * tracks

    def _parts(self, context: Context) -> BatchParts:
        check_choices(self.if_landed, self.on_lost_submit)
        tracks = read_chunk(self.tracks, self.aws_conn_id) if isinstance(self.tracks, str) else self.tracks
        return BatchParts(
            context,
            tracks=_parsed(tracks),
            destination=self.destination,
            separation_type=parse_separation_type(self.separation_type),
            stem_name=self.stem_name,
            ledger=self.ledger,
            hook=self.hook,
            aws_conn_id=self.aws_conn_id,
            upload_args=self.upload_args,
            parallel=self.parallel,
        )

    def _job(self, parts: BatchParts, report: BatchReport) -> BatchJob:
        return parts.job(
            report,
            credits=number_or_none(self.max_credits),
            replace=self.if_landed == "replace",
            on_lost_submit=OnLostSubmit(self.on_lost_submit),
            adoption_grace=float(self.adoption_grace),
            max_submissions=self.max_submissions,
        )


def _parsed(tracks: Sequence[Track | dict[str, Any]]) -> list[Track]:
    """Read the tracks; one that is listed twice counts once."""
    parsed: dict[str, Track] = {}
    problems = []
    for number, raw in enumerate(tracks, start=1):
        try:
            track = raw if isinstance(raw, Track) else Track.parse(raw)
        except TrackError as e:
            problems.append(f"  {number}: {e}")
            continue
        if parsed.setdefault(track.key, track) != track:
            problems.append(
                f"  {number}: key {track.key!r} names another track before: give each track its own key"
            )
    if problems:
        more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CatalogueError(
            f"{len(problems)} of {len(tracks)} tracks cannot be used:\n"
            + "\n".join(problems[:_NAMED])
            + f"{more}\nNothing was submitted."
        )
    return list(parsed.values())


def _ended(event: dict[str, Any] | None) -> dict[str, tuple[WaitOutcome, str]]:
    """Take an event of the trigger, or of the receiver of callbacks, apart."""
    try:
        ended = (event or {}).get("ended", {})
        return {task_id: (WaitOutcome(outcome), str(words)) for task_id, (outcome, words) in ended.items()}
    except (AttributeError, TypeError, ValueError) as e:
        raise InvalidEventError(
            f"The wait was resumed with {event!r}, which is not an event of this provider's trigger. Nothing is lost: a "
            "retry goes on from the ledger."
        ) from e


def _failure(report: BatchReport, uri: str, *, retried: bool) -> Exception:
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
