"""
The inbox: callbacks stored until the task runs next.

It is in the task state store, one value per attempt, or one for a whole batch. The receiver writes it beside
Airflow's own rows, in one transaction; the operator reads it through its context.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_vocalsep.api.models import Callback

#: One submit makes one vendor task. More ids than this for one attempt are made up.
MAX_TASKS = 4

#: Deliveries of one vendor task that are counted and audited. Vendors try three or four times.
MAX_DELIVERIES = 20

_MAX_MESSAGE = 500

#: Key in the task state store of the inbox of a batch.
BATCH_KEY = "vocalsep-callbacks"


@dataclass(frozen=True)
class ReceivedCallback:
    """
    All deliveries of a callback about one vendor task.

    :param code: The vendor's code, 200 for success.
    :param message: The vendor's message, shortened.
    :param first_at: Time of the first delivery, ISO 8601.
    :param last_at: Time of the last one.
    :param count: Number of deliveries.
    """

    vendor_task_id: str
    code: int
    message: str
    first_at: str
    last_at: str
    count: int = 1


def inbox_key(attempt_id: str) -> str:
    """Return the key in the task state store of the inbox of an attempt."""
    return f"vocalsep-callback-{attempt_id}"


def callbacks_by_attempt(value: Any) -> dict[str, list[ReceivedCallback]]:
    """Return the callbacks in the value of :data:`BATCH_KEY`, by attempt."""
    if not isinstance(value, dict):
        return {}
    return {attempt_id: received_callbacks(stored) for attempt_id, stored in value.items()}


def received_callbacks(value: Any) -> list[ReceivedCallback]:
    """
    Return the callbacks in a stored value, the first one first.

    :param value: From the store; whatever :func:`record_delivery` did not write counts as empty.
    """
    try:
        return [ReceivedCallback(**item) for item in value or ()]
    except TypeError:
        return []


def record_delivery(value: Any, callback: Callback, at: datetime) -> tuple[list[dict[str, Any]] | None, bool]:
    """
    Add a delivery to a stored value.

    :param value: From the store, ``None`` if it has none.
    :param at: Time of the delivery.
    :return: The value to store, ``None`` if there is nothing to add; and whether the vendor task is new.
    """
    received = {item.vendor_task_id: item for item in received_callbacks(value)}
    when = at.isoformat(timespec="milliseconds")
    before = received.get(callback.task_id)
    if before is None:
        if len(received) >= MAX_TASKS:
            return None, False
        message = "".join(c if c.isprintable() else " " for c in callback.message[:_MAX_MESSAGE])
        received[callback.task_id] = ReceivedCallback(callback.task_id, callback.code, message, when, when)
    elif before.count >= MAX_DELIVERIES:
        return None, False
    else:
        received[callback.task_id] = replace(before, last_at=when, count=before.count + 1)
    return [asdict(item) for item in received.values()], before is None
