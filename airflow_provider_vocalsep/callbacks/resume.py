"""
Turning a delivery into rows of Airflow's database: the only module that touches what Airflow calls internal.

It makes the call that Airflow's own human-in-the-loop route makes
(``airflow.api_fastapi.core_api.routes.public.hitl``): lock the task instance, ``handle_event_submit``. Where a version
of Airflow lacks a part, the rest goes on: without the task state store (before 3.3) nothing is remembered,
without the resume call the trigger's own reads end the wait.
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

#: How long a callback stays remembered. Longer than any token counts.
_KEPT = timedelta(days=30)

#: Other waits of the same DAG run that are looked through for the vendor task, at most.
_MAX_WAITS = 2000


class Effect(str, Enum):
    """What a delivery did. Also the end of the name of its row in the Audit Log."""

    #: The waiting task instance was resumed.
    RESUMED = "resumed"
    #: Nobody waits for it yet; it is remembered.
    REMEMBERED = "remembered"
    #: Nobody waits for it, and it had come before.
    DUPLICATE = "duplicate"
    #: The task instance has ended.
    LATE = "late"
    #: It came too often, or with too many ids; nothing was written.
    IGNORED = "ignored"
    #: There is no such task instance (any more).
    UNKNOWN = "unknown"


def deliver(delivery: Delivery, now: datetime | None = None) -> tuple[Effect, bool]:
    """
    Remember a delivery, write it into the Audit Log, and resume who waits for it: all of it or nothing.

    :param delivery: What came.
    :param now: The time.
    :return: What it did, and whether another look soon (:func:`resume_later`) may find somebody to resume.
    :raises sqlalchemy.exc.SQLAlchemyError: the database is away. Nothing was changed.
    """
    now = now or datetime.now(tz=timezone.utc)
    with create_session(scoped=False) as session:
        ti = _locked(session, delivery.claims)
        if ti is None:
            return Effect.UNKNOWN, False
        new, written = _remember(session, delivery, now)
        if not written:
            return Effect.IGNORED, False
        resumed, soon = _resume(session, ti, delivery, now, others=new)
        effect = _effect(ti, resumed=resumed, new=new)
        _audit(session, ti, delivery, effect)
        return effect, soon


def resume_later(delivery: Delivery, now: datetime | None = None) -> bool:
    """
    Look again for who waits: a task that ran when the callback came may be parked by now.

    :param delivery: What came.
    :param now: The time.
    :return: Whether another look may still find somebody.
    """
    now = now or datetime.now(tz=timezone.utc)
    with create_session(scoped=False) as session:
        ti = _locked(session, delivery.claims)
        if ti is None:
            return False
        resumed, soon = _resume(session, ti, delivery, now, others=True)
        if resumed:
            _audit(session, ti, delivery, Effect.RESUMED)
        return soon


def _locked(session: Session, claims: CallbackClaims) -> TaskInstance | None:
    if session.get_bind().dialect.name == "sqlite":
        # SQLite knows no FOR UPDATE, and Python's driver begins no transaction to read: two deliveries to one batch would
        # both read what is remembered, and the second would write over the first.
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


def _remember(session: Session, delivery: Delivery, now: datetime) -> tuple[bool, bool]:
    """Return whether the vendor task is new for its attempt, and whether the delivery counts at all."""
    if get_state_backend is None:
        return True, True
    claims = delivery.claims
    key = BATCH_KEY if claims.batch else inbox_key(claims.attempt_id)
    before = _recall(session, claims, key)
    own = (before or {}).get(claims.attempt_id) if claims.batch else before
    value, new = record_delivery(own, delivery.callback, now)
    if value is None:
        return new, False
    stored = {**(before or {}), claims.attempt_id: value} if claims.batch else value
    get_state_backend().set(_scope(claims), key, json.dumps(stored), expires_at=now + _KEPT, session=session)
    return new, True


def _recall(session: Session, claims: CallbackClaims, key: str) -> Any:
    if get_state_backend is None:
        return None
    value = get_state_backend().get(_scope(claims), key, session=session)
    return json.loads(value) if value else None


def _scope(claims: CallbackClaims) -> TaskScope:
    return TaskScope(
        dag_id=claims.dag_id, run_id=claims.run_id, task_id=claims.task_id, map_index=claims.map_index
    )


def _resume(
    session: Session, ti: TaskInstance, delivery: Delivery, now: datetime, *, others: bool
) -> tuple[bool, bool]:
    if handle_event_submit is None:
        return False, False
    found = [ti] if _waits_for(ti, delivery) or _batch_waits_for(session, ti, delivery) else []
    if others and ti.state == TaskInstanceState.SUCCESS and ti.dag_run.state == DagRunState.RUNNING:
        found = _others_waiting(session, delivery)
    rest = timedelta(seconds=resume_delay())
    young = False
    resumed = False
    for waiting in found:
        if waiting.trigger.created_date + rest > now:
            young = True
            continue
        event = {
            "status": WaitOutcome.CALLED_BACK.value,
            "vendor_task_id": delivery.callback.task_id,
            "message": _said(delivery),
            "reads": 0,
        }
        handle_event_submit(TriggerEvent(event), task_instance=waiting, session=session)  # type: ignore[no-untyped-call]
        resumed = True
    running = not found and ti.state == TaskInstanceState.RUNNING
    return resumed, young or running


def _waits_for(ti: TaskInstance, delivery: Delivery) -> bool:
    """Tell whether a task instance is parked on a trigger of ours, waiting for just this."""
    if ti.state != TaskInstanceState.DEFERRED or ti.trigger is None:
        return False
    if ti.trigger.classpath == VOCAL_SEPARATION_TRIGGER:
        return bool(ti.trigger.kwargs.get("vendor_task_id") == delivery.callback.task_id)
    if ti.trigger.classpath == LOST_SUBMIT_TRIGGER:
        return bool(ti.trigger.kwargs.get("attempt_id") == delivery.claims.attempt_id)
    return False


def _batch_waits_for(session: Session, ti: TaskInstance, delivery: Delivery) -> bool:
    """Tell whether a parked batch has heard about everything that it waits for: it is resumed once, not for each track."""
    if ti.state != TaskInstanceState.DEFERRED or ti.trigger is None or ti.trigger.classpath != BATCH_TRIGGER:
        return False
    heard = callbacks_by_attempt(_recall(session, delivery.claims, BATCH_KEY))
    vendor_task_ids = {item.vendor_task_id for items in heard.values() for item in items}
    kwargs = ti.trigger.kwargs
    return vendor_task_ids.issuperset(kwargs["waiting"]) and set(heard).issuperset(kwargs["in_doubt"])


def _others_waiting(session: Session, delivery: Delivery) -> list[TaskInstance]:
    """Find sensors of the same DAG run that wait for what an operator submitted and left, and lock them."""
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
        .limit(_MAX_WAITS)
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


def _said(delivery: Delivery) -> str:
    callback = delivery.callback
    words = f": {callback.message!r}" if callback.message else ""
    return f"The vendor called back about task {callback.task_id} (code {callback.code}{words})."
