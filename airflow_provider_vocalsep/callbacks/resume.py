"""
Resuming the task instance that a callback is for: the only module that touches what Airflow calls internal.

It makes the call that Airflow's own human-in-the-loop route makes
(``airflow.api_fastapi.core_api.routes.public.hitl``): lock the task instance, ``handle_event_submit``. If a
version of Airflow lacks a part, the rest works: without the task state store (before 3.3) no callback is
stored, without the resume call the trigger's own reads end the wait.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import select, text
from sqlalchemy.orm import joinedload

from airflow_provider_vocalsep.callbacks.inbox import (
    BATCH_KEY,
    callbacks_by_attempt,
    inbox_key,
    record_delivery,
)
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.triggers import BATCH_TRIGGER, LOST_SUBMIT_TRIGGER, VOCAL_SEPARATION_TRIGGER
from airflow_provider_vocalsep.triggers.resume_delay import resume_delay

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_vocalsep.callbacks.token import CallbackClaims
    from airflow_provider_vocalsep.callbacks.verification import Delivery

try:
    from airflow.models.trigger import handle_event_submit
except ImportError:  # pragma: no cover - an Airflow to come
    handle_event_submit = None  # type: ignore[assignment]
try:
    from airflow.state import TaskScope, get_state_backend
except ImportError:  # Airflow before 3.3
    TaskScope = get_state_backend = None  # type: ignore[assignment, misc]

log = logging.getLogger(__name__)

#: How long a callback is stored. Longer than any token is valid.
_EXPIRY = timedelta(days=30)

#: Deferred task instances of the DAG run that are searched for a sensor of the vendor task, at most.
_MAX_SENSORS = 2000


class Effect(str, Enum):
    """The effect of a delivery; also the end of its event name in the Audit Log and of its metric."""

    #: The waiting task instance was resumed.
    RESUMED = "resumed"
    #: No task instance waits for it yet; it is stored.
    REMEMBERED = "remembered"
    #: No task instance waits for it, and it is a repetition.
    DUPLICATE = "duplicate"
    #: The task instance has ended.
    LATE = "late"
    #: Too many repetitions or vendor task ids; nothing was written.
    IGNORED = "ignored"
    #: The task instance does not exist (any more).
    UNKNOWN = "unknown"


def deliver(delivery: Delivery, now: datetime | None = None) -> tuple[Effect, bool]:
    """
    Store a delivery, audit it and resume the task instance that waits for it, in one transaction.

    :return: The effect, and whether :func:`resume_later` may find a task instance to resume soon.
    :raises sqlalchemy.exc.SQLAlchemyError: the database is down. Nothing was changed.
    """
    now = now or datetime.now(tz=timezone.utc)
    with create_session(scoped=False) as session:
        ti = _lock_addressee(session, delivery.claims)
        if ti is None:
            return Effect.UNKNOWN, False
        new, written = _store(session, delivery, now)
        if not written:
            return Effect.IGNORED, False
        resumed, again = _resume(session, ti, delivery, now, sensors=new)
        effect = _effect(ti, resumed=resumed, new=new)
        _audit(session, ti, delivery, effect)
        return effect, again


def resume_later(delivery: Delivery, now: datetime | None = None) -> bool:
    """
    Try again to resume: a task that was running when its callback came may be deferred by now.

    :return: Whether a further try may still succeed.
    """
    now = now or datetime.now(tz=timezone.utc)
    with create_session(scoped=False) as session:
        ti = _lock_addressee(session, delivery.claims)
        if ti is None:
            return False
        resumed, again = _resume(session, ti, delivery, now, sensors=True)
        if resumed:
            _audit(session, ti, delivery, Effect.RESUMED)
        return again


def _lock_addressee(session: Session, claims: CallbackClaims) -> TaskInstance | None:
    if session.get_bind().dialect.name == "sqlite":
        # SQLite has no FOR UPDATE, and Python's driver begins no transaction for a read: of two deliveries to
        # one batch, both would read the same inbox, and the second would overwrite the first.
        session.execute(text("BEGIN IMMEDIATE"))
    return session.scalar(
        select(TaskInstance)
        .where(
            TaskInstance.dag_id == claims.dag_id,
            TaskInstance.run_id == claims.run_id,
            TaskInstance.task_id == claims.task_id,
            TaskInstance.map_index == claims.map_index,
        )
        .with_for_update(of=TaskInstance)
    )


def _lock(session: Session, ti_id: Any) -> TaskInstance | None:
    return session.get(TaskInstance, ti_id, with_for_update={"of": TaskInstance}, populate_existing=True)


def _store(session: Session, delivery: Delivery, now: datetime) -> tuple[bool, bool]:
    """Return whether the vendor task is new for its attempt, and whether the delivery was stored."""
    if get_state_backend is None:
        return True, True
    claims = delivery.claims
    key = BATCH_KEY if claims.batch else inbox_key(claims.attempt_id)
    before = _load(session, claims, key)
    own = (before or {}).get(claims.attempt_id) if claims.batch else before
    value, new = record_delivery(own, delivery.callback, now)
    if value is None:
        return new, False
    stored = {**(before or {}), claims.attempt_id: value} if claims.batch else value
    get_state_backend().set(
        _scope(claims), key, json.dumps(stored), expires_at=now + _EXPIRY, session=session
    )
    return new, True


def _load(session: Session, claims: CallbackClaims, key: str) -> Any:
    if get_state_backend is None:
        return None
    value = get_state_backend().get(_scope(claims), key, session=session)
    return json.loads(value) if value else None


def _scope(claims: CallbackClaims) -> TaskScope:
    return TaskScope(
        dag_id=claims.dag_id, run_id=claims.run_id, task_id=claims.task_id, map_index=claims.map_index
    )


def _resume(
    session: Session, ti: TaskInstance, delivery: Delivery, now: datetime, *, sensors: bool
) -> tuple[bool, bool]:
    """Return whether a task instance was resumed, and whether another try may resume one."""
    if handle_event_submit is None:
        return False, False
    waiting = [ti] if _waits_for(ti, delivery) or _is_complete_batch(session, ti, delivery) else []
    if sensors and ti.state == TaskInstanceState.SUCCESS and ti.dag_run.state == DagRunState.RUNNING:
        waiting = _lock_sensors(session, delivery)
    delay = timedelta(seconds=resume_delay())
    ready = [found for found in waiting if found.trigger.created_date + delay <= now]
    payload = {
        "status": WaitOutcome.CALLED_BACK.value,
        "vendor_task_id": delivery.callback.task_id,
        "message": _describe(delivery),
        "reads": 0,
    }
    event = TriggerEvent(payload)  # type: ignore[no-untyped-call]
    for found in ready:
        handle_event_submit(event, task_instance=found, session=session)
    running = not waiting and ti.state == TaskInstanceState.RUNNING
    return bool(ready), len(ready) < len(waiting) or running


def _waits_for(ti: TaskInstance, delivery: Delivery) -> bool:
    """Return whether a task instance is deferred with a trigger that waits for this callback."""
    if ti.state != TaskInstanceState.DEFERRED or ti.trigger is None:
        return False
    if ti.trigger.classpath == VOCAL_SEPARATION_TRIGGER:
        return bool(ti.trigger.kwargs.get("vendor_task_id") == delivery.callback.task_id)
    if ti.trigger.classpath == LOST_SUBMIT_TRIGGER:
        return bool(ti.trigger.kwargs.get("attempt_id") == delivery.claims.attempt_id)
    return False


def _is_complete_batch(session: Session, ti: TaskInstance, delivery: Delivery) -> bool:
    """
    Return whether a deferred batch has the callbacks of all that it waits for.

    So it is resumed once, not for each track.
    """
    if ti.state != TaskInstanceState.DEFERRED or ti.trigger is None or ti.trigger.classpath != BATCH_TRIGGER:
        return False
    received = callbacks_by_attempt(_load(session, delivery.claims, BATCH_KEY))
    vendor_task_ids = {callback.vendor_task_id for callbacks in received.values() for callback in callbacks}
    kwargs = ti.trigger.kwargs
    return vendor_task_ids.issuperset(kwargs["waiting"]) and set(received).issuperset(kwargs["in_doubt"])


def _lock_sensors(session: Session, delivery: Delivery) -> list[TaskInstance]:
    """Lock the sensors in the DAG run that wait for a vendor task which an operator only submitted."""
    candidates = session.scalars(
        select(TaskInstance)
        .join(Trigger, Trigger.id == TaskInstance.trigger_id)
        .where(
            TaskInstance.dag_id == delivery.claims.dag_id,
            TaskInstance.run_id == delivery.claims.run_id,
            TaskInstance.state == TaskInstanceState.DEFERRED,
            Trigger.classpath == VOCAL_SEPARATION_TRIGGER,
        )
        .options(joinedload(TaskInstance.trigger))
        .limit(_MAX_SENSORS)
    )
    found = [ti.id for ti in candidates if _waits_for(ti, delivery)]
    locked = [_lock(session, ti_id) for ti_id in found]
    return [ti for ti in locked if ti is not None and _waits_for(ti, delivery)]


def _effect(ti: TaskInstance, *, resumed: bool, new: bool) -> Effect:
    if resumed:
        return Effect.RESUMED
    if ti.state in (TaskInstanceState.SUCCESS, TaskInstanceState.FAILED, TaskInstanceState.SKIPPED):
        return Effect.LATE
    return Effect.REMEMBERED if new else Effect.DUPLICATE


def _audit(session: Session, ti: TaskInstance, delivery: Delivery, effect: Effect) -> None:
    extra = {
        "vendor_task_id": delivery.callback.task_id,
        "code": delivery.callback.code,
        "message": delivery.callback.message[:500],
        "attempt_id": delivery.claims.attempt_id,
    }
    row = Log(
        event=f"vocalsep_callback_{effect.value}",
        task_instance=ti,
        owner="vocalsep",
        extra=json.dumps(extra),
    )
    session.add(row)


def _describe(delivery: Delivery) -> str:
    callback = delivery.callback
    message = f": {callback.message!r}" if callback.message else ""
    return f"The vendor called back about task {callback.task_id} (code {callback.code}{message})."
