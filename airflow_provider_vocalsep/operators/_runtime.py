"""From an operator and its Airflow context to the runtime of tracks, and from our errors to Airflow's."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.callbacks.channel import BatchCallbackChannel, CallbackChannel
from airflow_provider_vocalsep.client.pace import submit_gate
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import Lander
from airflow_provider_vocalsep.ledger import (
    Ledger,
    LedgerStore,
    MemoryLedgerStore,
    S3LedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.task_state_store import TaskStateLedgerStore
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.runs.report import BatchReport
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.separation.runtime import (
    LandingTarget,
    OnLostSubmit,
    Runtime,
    SeparationOptions,
)
from airflow_provider_vocalsep.separation.track_job import LandingJob, TrackJob
from airflow_provider_vocalsep.storage.clients import store_from_connection
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

Job = TypeVar("Job", bound="LandingJob")


class Separating(Protocol):
    """The arguments that both separating operators have."""

    separation_type: str
    stem_name: str | None
    destination: Any
    ledger: str | None
    aws_conn_id: str | None
    vocalsep_conn_id: str
    if_landed: str
    on_lost_submit: str
    adoption_grace: float | str
    max_submissions: int
    upload_args: dict[str, Any] | None

    @property
    def hook(self) -> VocalSeparationHook:
        """The hook of the vendor account."""


def airflow_error(error: Exception, *, track_key: object = None) -> Exception:
    """
    Return the error to raise for Airflow, which retries only where a retry may help.

    :param error: Ours, or any other.
    :param track_key: Key of the track that it is about; a message that does not name it gets it in front.
    :return: An ``AirflowFailException`` with the same message for an error that no retry mends, else the
        error itself.
    """
    if not isinstance(error, VocalSepError):
        return error
    if track_key and repr(track_key) not in str(error):
        error.args = (f"Track {track_key!r}: {error}",)
    return error if error.retryable else AirflowFailException(str(error))


def raise_for_airflow(error: VocalSepError) -> NoReturn:
    """Raise what :func:`airflow_error` returns."""
    raise airflow_error(error) from error


def task_instance_ref(context: Context) -> TaskInstanceRef:
    """Return which task instance and try this is."""
    ti = context["ti"]
    return TaskInstanceRef(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
        # Airflow has it since 3.2, and only for a run that was triggered by hand.
        user=getattr(context.get("dag_run"), "triggering_user_name", None),
    )


def open_track(operator: Separating, track: Track, context: Context, *, named: str | None = None) -> TrackJob:
    """
    Open the job of an operator with a single track.

    :param named: The vendor task whose callback resumed the operator, for Airflow before 3.3.
    """
    needs_s3 = operator.destination or operator.ledger or (track.audio_url or "").startswith("s3://")
    store = open_store(operator) if needs_s3 else None
    asked_by, task_state = task_instance_ref(context), context.get("task_state_store")
    hook = operator.hook
    callbacks = CallbackChannel(
        asked_by, hook.settings, conn_id=operator.vocalsep_conn_id, task_state=task_state, named=named
    )
    options = _options_of(operator)
    return TrackJob(
        track,
        Runtime(
            options=options,
            asked_by=asked_by,
            vendor=hook.client,
            ledger=open_ledger(operator, store, task_state),
            callbacks=callbacks,
            store=store,
            target=open_target(operator, store, options, asked_by)
            if store and operator.destination
            else None,
        ),
    )


def open_batch(operator: Separating, context: Context, *, parallel: int) -> Runtime:
    """Open the runtime of a batch."""
    store, hook = open_store(operator), operator.hook
    asked_by, task_state = task_instance_ref(context), context.get("task_state_store")
    options, settings = _options_of(operator), hook.settings
    return Runtime(
        options=options,
        asked_by=asked_by,
        vendor=hook.client,
        ledger=open_ledger(operator, store, task_state),
        callbacks=BatchCallbackChannel(
            asked_by, settings, conn_id=operator.vocalsep_conn_id, task_state=task_state
        ),
        store=store,
        target=open_target(operator, store, options, asked_by, max_parallel=parallel),
        gate=submit_gate(settings.base_url, settings.account, settings.submit_rate),
    )


def open_store(operator: Any) -> ObjectStore:
    """Open the object store of an operator; all that it writes carries the operator's ``upload_args``."""
    return store_from_connection(operator.aws_conn_id, upload_args=operator.upload_args)


def open_target(
    operator: Any,
    store: ObjectStore,
    options: SeparationOptions,
    asked_by: TaskInstanceRef,
    *,
    max_parallel: int = 4,
) -> LandingTarget:
    """Open the destination of an operator, guarded as its connection says."""
    settings, destination = operator.hook.settings, Location.parse(operator.destination)
    guard = DownloadGuard(
        allowed_hosts=settings.download_hosts, allow_private_hosts=settings.allow_private_hosts
    )
    return LandingTarget(
        store=store,
        destination=destination,
        lander=Lander(store, guard=guard, max_parallel=max_parallel),
        report_file=ReportFile(store, destination, asked_by, options.separation_type, options.stem_name),
    )


def _options_of(operator: Separating) -> SeparationOptions:
    if operator.if_landed not in ("skip", "replace"):
        raise TrackError(f"if_landed is 'skip' or 'replace', not {operator.if_landed!r}.")
    if operator.on_lost_submit not in [policy.value for policy in OnLostSubmit]:
        raise TrackError(f"on_lost_submit is 'adopt', 'resubmit' or 'fail', not {operator.on_lost_submit!r}.")
    return SeparationOptions(
        separation_type=parse_separation_type(operator.separation_type),
        stem_name=operator.stem_name,
        replace=operator.if_landed == "replace",
        on_lost_submit=OnLostSubmit(operator.on_lost_submit),
        adoption_grace=float(operator.adoption_grace),
        max_submissions=operator.max_submissions,
    )


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Let Airflow retry what a retry may mend, and fail at once what it cannot."""
    try:
        yield
    except VocalSepError as e:
        raise_for_airflow(e)


@contextmanager
def track_leg(
    operator: Any,
    context: Context,
    open_job: Callable[[], Job],
    *,
    track_key: object,
    check_destination: bool = True,
) -> Iterator[Job]:
    """
    Run one leg of an operator with a single track, and write its run report however the leg ends.

    :param open_job: Opens the job of the track.
    :param track_key: Key of the track, for messages.
    :param check_destination: Make sure, before the leg, that stems can be written.
    """
    reported: Job | None = None
    try:
        job = open_job()
        if check_destination:
            job.check_destination()
        reported = job
        yield job
    except TaskDeferred:
        write_report(reported, concluded=False)
        raise
    except Exception as e:
        error = airflow_error(e, track_key=track_key)
        final, ti = isinstance(error, AirflowFailException), context["ti"]
        retried = not final and ti.try_number <= getattr(ti, "max_tries", 0)
        if reported:
            reported.row.record_failed(error if error is e else e, final=final)
            write_report(reported, concluded=not retried)
        if not retried:
            metrics.count_unlanded("failed", 1, task_instance_ref(context), str(operator.separation_type))
        if error is e:
            raise
        raise error from e
    else:
        write_report(reported, concluded=True)


def write_report(job: LandingJob | None, *, concluded: bool) -> None:
    """
    Write the run report of a single track. It is an account only: an error is logged and changes nothing.

    :param job: The track's; ``None`` if its destination is not known to be usable.
    :param concluded: Whether the Airflow task ends here.
    """
    if job is None or job.runtime.target is None:
        return
    file = job.runtime.target.report_file
    try:
        job.count_money()
        job.row.submits = job.row.paid
        file.write(BatchReport([job.row], concluded=concluded))
    except Exception as e:
        log.warning("The run report %s was not written, which changes nothing: %s", file.uri, e)


def open_ledger(operator: Separating, store: ObjectStore | None, task_state: Any | None) -> Ledger:
    """
    Open the ledger of an operator.

    Without a ``ledger`` and a ``destination`` it is the task state store of the task instance, which survives
    its retries (Airflow 3.3 and later), or else lasts as long as this try.
    """
    return Ledger(_ledger_store_of(operator, store, task_state), on_event=metrics.count_event)


def _ledger_store_of(operator: Separating, store: ObjectStore | None, task_state: Any | None) -> LedgerStore:
    if store is not None and operator.ledger:
        return S3LedgerStore(store, Location.parse(operator.ledger))
    if store is not None and operator.destination:
        return S3LedgerStore(store, Location.parse(operator.destination).ledger)
    if task_state is not None:
        return TaskStateLedgerStore(task_state)
    log.warning(
        "There is neither a destination nor a ledger and this Airflow has no task state store: a retry of "
        "this task submits, and pays, again. Set ledger='s3://...' or retries=0."
    )
    return MemoryLedgerStore()
