"""An Airflow task instance's own callback line: the addresses that it gives out, and what came in on them."""

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
    just_heard: str | None = None,
    inbox: dict[str, list[ReceivedCallback]] | None = None,
) -> CallbackChannel | None:
    """
    Open the line of a task instance.

    :param context: Its Airflow context.
    :param settings: The vendor account.
    :param conn_id: Connection of the account; the receiver verifies tokens with its secret.
    :param asked_by: The task instance.
    :param grace: See :class:`~airflow_provider_vocalsep.separation.adoption.CallbackChannel`.
    :param just_heard: The vendor task whose callback resumed this task instance from the wait for one. Airflow before
        3.3 has no other memory of it.
    :param inbox: What a batch heard, see :func:`inbox_of`; ``None`` for a task instance with one track.
    :return: ``None`` when the connection does not switch callbacks on.
    """
    base_url, secrets = settings.callback_base_url, settings.callback_secrets
    if base_url is None or not secrets:
        return None

    def url_of(attempt_id: str) -> str:
        expires = int(time.time()) + TOKEN_LIFE
        claims = CallbackClaims(conn_id, *asked_by.instance, attempt_id, expires, inbox is not None)
        return f"{base_url}{CALLBACK_PATH}{mint(claims, secrets[0])}"

    def heard(attempt_id: str) -> str | None:
        found = remembered(context, attempt_id) if inbox is None else inbox.get(attempt_id)
        return found[0].vendor_task_id if found else just_heard

    return CallbackChannel(url_of=url_of, heard=heard, grace=grace)


def remembered(context: Context, attempt_id: str) -> list[ReceivedCallback]:
    """Return the callbacks that came for an attempt of this task instance. Before Airflow 3.3 nothing remembers them."""
    store = context.get("task_state_store")
    return received_callbacks(store.get(inbox_key(attempt_id))) if store is not None and attempt_id else []


def inbox_of(context: Context) -> dict[str, list[ReceivedCallback]]:
    """Return the callbacks that came for the attempts of this task instance, a batch."""
    store = context.get("task_state_store")
    return callbacks_by_attempt(store.get(BATCH_KEY)) if store is not None else {}


def callback_event(heard: ReceivedCallback, attempt_id: str, asked_by: TaskInstanceRef) -> Event:
    """Turn a remembered callback into a line of the ledger's history."""
    return Event(
        at=datetime.fromisoformat(heard.first_at),
        event="called_back",
        by=asked_by,
        attempt_id=attempt_id,
        vendor_task_id=heard.vendor_task_id,
        code=heard.code,
        message=heard.message or None,
        count=heard.count,
        last_at=datetime.fromisoformat(heard.last_at) if heard.count > 1 else None,
    )
