"""The runtime of an operator in its Airflow context, and the errors and run report of its legs."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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
    LandingRuntime,
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


class SeparatingOperator(Protocol):
    """The arguments that both separating operators share."""

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
    def stopped(self) -> threading.Event:
        """Set when the Airflow task is to stop."""

    @property
    def hook(self) -> VocalSeparationHook:
        """The hook of the vendor account."""


def airflow_error(error: Exception, *, track_key: object = None) -> Exception:
    """
    Return the error to raise for Airflow, which retries only where a retry may help.

    :param track_key: Key of the failed track. If the message does not name it, it is put in front.
    :return: An ``AirflowFailException`` with the same message if no retry may help; otherwise the error.
    """
    if not isinstance(error, VocalSepError):
        return error
    if track_key and repr(track_key) not in str(error):
        error.args = (f"Track {track_key!r}: {error}",)
    return error if error.retryable else AirflowFailException(str(error))


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Raise errors of this provider as :func:`airflow_error` returns them."""
    try:
        yield
    except VocalSepError as e:
        error = airflow_error(e)
        if error is e:
            raise  # with its own cause
        raise error from e


def task_instance_ref(context: Context) -> TaskInstanceRef:
    """Return which task instance and try this is."""
    ti = context["ti"]
    return TaskInstanceRef(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
        # Airflow provides it since 3.2, for runs that a user triggered.
        user=getattr(context.get("dag_run"), "triggering_user_name", None),
    )


def open_track(
    operator: SeparatingOperator, track: Track, context: Context, *, named: str | None = None
) -> TrackJob:
    """
    Open the job of an operator with a single track.

    :param named: The vendor task whose callback resumed the operator, for Airflow before 3.3.
    """
    needs_s3 = operator.destination or operator.ledger or (track.audio_url or "").startswith("s3://")
    store = open_store(operator) if needs_s3 else None
    asked_by, task_state = task_instance_ref(context), context.get("task_state_store")
    hook, options = operator.hook, _options_of(operator)
    runtime = Runtime(
        options=options,
        asked_by=asked_by,
        vendor=hook.client,
        target=_open_target(operator, store, options, asked_by) if store and operator.destination else None,
        ledger=_open_ledger(operator, store, task_state),
        callbacks=CallbackChannel(
            asked_by, hook.settings, conn_id=operator.vocalsep_conn_id, task_state=task_state, named=named
        ),
        store=store,
        stopped=operator.stopped,
    )
    return TrackJob(track, runtime)


def open_batch(operator: SeparatingOperator, context: Context, *, parallel: int) -> Runtime:
    """Open the runtime of a batch."""
    store, hook = open_store(operator), operator.hook
    asked_by, task_state = task_instance_ref(context), context.get("task_state_store")
    options, settings = _options_of(operator), hook.settings
    return Runtime(
        options=options,
        asked_by=asked_by,
        vendor=hook.client,
        target=_open_target(operator, store, options, asked_by, max_parallel=parallel),
        ledger=_open_ledger(operator, store, task_state),
        callbacks=BatchCallbackChannel(
            asked_by, settings, conn_id=operator.vocalsep_conn_id, task_state=task_state
        ),
        store=store,
        stopped=operator.stopped,
        gate=submit_gate(settings.base_url, settings.account, settings.submit_rate),
    )


def open_store(operator: Any) -> ObjectStore:
    """Open the object store of an operator; all that it writes carries the operator's ``upload_args``."""
    return store_from_connection(operator.aws_conn_id, upload_args=operator.upload_args)


def open_landing(operator: Any, options: SeparationOptions, context: Context) -> LandingRuntime:
    """Open the runtime of an operator that lands a vendor task, and pays nothing."""
    asked_by, store = task_instance_ref(context), open_store(operator)
    target = _open_target(operator, store, options, asked_by)
    return LandingRuntime(options=options, asked_by=asked_by, vendor=operator.hook.client, target=target)


def _open_target(
    operator: Any,
    store: ObjectStore,
    options: SeparationOptions,
    asked_by: TaskInstanceRef,
    *,
    max_parallel: int = 4,
) -> LandingTarget:
    settings, destination = operator.hook.settings, Location.parse(operator.destination)
    guard = DownloadGuard(
        allowed_hosts=settings.download_hosts, allow_private_hosts=settings.allow_private_hosts
    )
    return LandingTarget(
        store=store,
        destination=destination,
        lander=Lander(store, guard=guard, max_parallel=max_parallel, stopped=operator.stopped),
        report_file=ReportFile(store, destination, asked_by, options.separation_type, options.stem_name),
    )


def _options_of(operator: SeparatingOperator) -> SeparationOptions:
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


class Stoppable:
    """An operator that stops when Airflow asks: it submits nothing more and ends its transfers."""

    @cached_property
    def stopped(self) -> threading.Event:
        """Set when the Airflow task is to stop."""
        return threading.Event()

    def on_kill(self) -> None:
        """Stop. Airflow calls this in its signal handler, five seconds before it kills the process."""
        self.stopped.set()


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
    Run one leg of an operator with a single track, and write its run report, also after an error.

    :param track_key: Key of the track, for messages.
    :param check_destination: Whether to check, before the leg, that stems can be written.
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
            reported.row.record_failed(e, final=final)
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
    Write the run report of a single track. An error is only logged: nothing depends on this report.

    :param job: The job of the track; ``None`` before its destination is checked.
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


def _open_ledger(operator: SeparatingOperator, store: ObjectStore | None, task_state: Any | None) -> Ledger:
    return Ledger(_ledger_store_of(operator, store, task_state), on_event=metrics.count_event)


def _ledger_store_of(
    operator: SeparatingOperator, store: ObjectStore | None, task_state: Any | None
) -> LedgerStore:
    """Return the store of the ledger; without S3 the task state store, which retries see, or memory."""
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
