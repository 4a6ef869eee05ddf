"""The callback channel of a task instance: the addresses that it hands out, and the callbacks received."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.callbacks.inbox import (
    BATCH_KEY,
    ReceivedCallback,
    callbacks_by_attempt,
    inbox_key,
    received_callbacks,
)
from airflow_provider_vocalsep.callbacks.token import CALLBACK_PATH, TOKEN_LIFE, CallbackClaims, mint
from airflow_provider_vocalsep.ledger import Event
from airflow_provider_vocalsep.separation.adoption import CallbackChannel

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_vocalsep.client.settings import AccountSettings
    from airflow_provider_vocalsep.ledger import TaskInstanceRef


def callback_channel(
    context: Context,
    settings: AccountSettings,
    *,
    conn_id: str,
    asked_by: TaskInstanceRef,
    grace: float,
    resumed_by: str | None = None,
    inbox: dict[str, list[ReceivedCallback]] | None = None,
) -> CallbackChannel | None:
    """
    Open the callback channel of a task instance.

    :param conn_id: Connection of the account; the receiver verifies tokens with its secret.
    :param grace: Seconds, see :class:`~airflow_provider_vocalsep.separation.adoption.CallbackChannel`.
    :param resumed_by: The vendor task whose callback resumed this task instance. Airflow before 3.3 stores it
        nowhere else.
    :param inbox: The inbox of a batch, see :func:`read_batch_inbox`; ``None`` for a single track.
    :return: ``None`` if the connection does not switch callbacks on.
    """
    base_url, secrets = settings.callback_base_url, settings.callback_secrets
    if base_url is None or not secrets:
        return None

    def url_of(attempt_id: str) -> str:
        expires = int(time.time()) + TOKEN_LIFE
        claims = CallbackClaims(conn_id, *asked_by.instance, attempt_id, expires, inbox is not None)
        return f"{base_url}{CALLBACK_PATH}{mint(claims, secrets[0])}"

    def vendor_task_of(attempt_id: str) -> str | None:
        found = read_callbacks(context, attempt_id) if inbox is None else inbox.get(attempt_id)
        return found[0].vendor_task_id if found else resumed_by

    return CallbackChannel(url_of=url_of, heard=vendor_task_of, grace=grace)


def read_callbacks(context: Context, attempt_id: str) -> list[ReceivedCallback]:
    """Return the callbacks received for an attempt of this task instance; none before Airflow 3.3."""
    store = context.get("task_state_store")
    return received_callbacks(store.get(inbox_key(attempt_id))) if store is not None and attempt_id else []


def read_batch_inbox(context: Context) -> dict[str, list[ReceivedCallback]]:
    """Return the callbacks received for this task instance, a batch, by attempt; none before Airflow 3.3."""
    store = context.get("task_state_store")
    return callbacks_by_attempt(store.get(BATCH_KEY)) if store is not None else {}


def callback_event(callback: ReceivedCallback, attempt_id: str, asked_by: TaskInstanceRef) -> Event:
    """Turn a received callback into an event of the ledger's history."""
    return Event(
        at=datetime.fromisoformat(callback.first_at),
        event="called_back",
        by=asked_by,
        attempt_id=attempt_id,
        vendor_task_id=callback.vendor_task_id,
        code=callback.code,
        message=callback.message or None,
        count=callback.count,
        last_at=datetime.fromisoformat(callback.last_at) if callback.count > 1 else None,
    )
