"""The callbacks of a task instance: the addresses that its submits give, and the callbacks received."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.callbacks.inbox import (
    BATCH_KEY,
    ReceivedCallback,
    callbacks_by_attempt,
    inbox_key,
    received_callbacks,
)
from airflow_provider_vocalsep.callbacks.token import CALLBACK_PATH, TOKEN_LIFE, CallbackClaims, mint
from airflow_provider_vocalsep.ledger import Event

if TYPE_CHECKING:
    from airflow_provider_vocalsep.client.settings import AccountSettings
    from airflow_provider_vocalsep.ledger import TaskInstanceRef


class CallbackChannel:
    """
    The callbacks of a task instance with one track.

    :param settings: The vendor account; the receiver verifies tokens with its secret.
    :param conn_id: Connection of the account.
    :param task_state: The task state store of the task instance, in which the receiver stores callbacks;
        ``None`` before Airflow 3.3, where nothing stores them.
    :param named: The vendor task whose callback resumed this task instance, for Airflow before 3.3.
    """

    #: Whether the callbacks of all attempts are stored together, and the last one resumes the task instance.
    together = False

    def __init__(
        self,
        asked_by: TaskInstanceRef,
        settings: AccountSettings,
        *,
        conn_id: str,
        task_state: Any | None,
        named: str | None = None,
    ) -> None:
        self.asked_by = asked_by
        self.settings = settings
        self.conn_id = conn_id
        self.task_state = task_state
        self.named = named

    @property
    def enabled(self) -> bool:
        """Whether the connection asks the vendor to call back."""
        return self.settings.callback_base_url is not None and bool(self.settings.callback_secrets)

    def refresh(self) -> None:
        """Do nothing: each call reads the received callbacks."""

    def url_of(self, attempt_id: str) -> str:
        """Return the address that the submit of an attempt gives to the vendor."""
        expires = int(time.time()) + TOKEN_LIFE
        claims = CallbackClaims(self.conn_id, *self.asked_by.instance, attempt_id, expires, self.together)
        token = mint(claims, self.settings.callback_secrets[0])
        return f"{self.settings.callback_base_url}{CALLBACK_PATH}{token}"

    def events_of(self, attempt_id: str) -> list[Event]:
        """Return the callbacks about an attempt, as events of the ledger's history."""
        return [
            callback_event(callback, attempt_id, self.asked_by)
            for callback in self._read_received(attempt_id)
        ]

    def vendor_task_of(self, attempt_id: str) -> str | None:
        """Return the vendor task that the callback about an attempt names."""
        received = self._read_received(attempt_id)
        return received[0].vendor_task_id if received else self.named

    def _read_received(self, attempt_id: str) -> list[ReceivedCallback]:
        if self.task_state is None or not attempt_id:
            return []
        return received_callbacks(self.task_state.get(inbox_key(attempt_id)))


class BatchCallbackChannel(CallbackChannel):
    """The callbacks of a batch, all read at the start and at each :meth:`refresh`."""

    together = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inbox: dict[str, list[ReceivedCallback]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the received callbacks again."""
        if self.task_state is not None:
            self.inbox.update(callbacks_by_attempt(self.task_state.get(BATCH_KEY)))

    def _read_received(self, attempt_id: str) -> list[ReceivedCallback]:
        return self.inbox.get(attempt_id, [])


def callback_event(callback: ReceivedCallback, attempt_id: str, asked_by: TaskInstanceRef) -> Event:
    """Return a callback as an event of the ledger's history."""
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
