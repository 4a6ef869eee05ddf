"""
What is remembered of callbacks until the task runs next.

It lies in the task state store: one value per attempt, or one for a whole batch. The receiver writes it beside Airflow's
own rows, in one transaction; the operator reads it through its context.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_vocalsep.api.models import Callback

#: One submit makes one vendor task. More ids than this for one attempt are somebody's invention.
MAX_TASKS = 4

#: Deliveries of one vendor task that are counted and audited. Vendors try three or four times.
MAX_DELIVERIES = 20

_MAX_MESSAGE = 500


@dataclass(frozen=True)
class ReceivedCallback:
    """
    A callback that came.

    :param vendor_task_id: The vendor task that it is about.
    :param code: The vendor's code, 200 for success.
    :param message: The vendor's words, shortened.
    :param first_at: When it came first, ISO 8601.
    :param last_at: When it came last.
    :param count: How often.
    """

    vendor_task_id: str
    code: int
    message: str
    first_at: str
    last_at: str
    count: int = 1


def inbox_key(attempt_id: str) -> str:
    """Return the key in the task state store."""
    return f"vocalsep-callback-{attempt_id}"


#: Key in the task state store of all that a batch heard.
BATCH_KEY = "vocalsep-callbacks"


def callbacks_by_attempt(value: Any) -> dict[str, list[ReceivedCallback]]:
    """
    Read what a batch heard.

    :param value: What the store holds under :data:`BATCH_KEY`.
    """
    return (
        {attempt: received_callbacks(heard) for attempt, heard in value.items()}
        if isinstance(value, dict)
        else {}
    )


def received_callbacks(value: Any) -> list[ReceivedCallback]:
    """
    Read a remembered value, the first callback first.

    :param value: What the store holds; anything but what :func:`record_delivery` wrote counts as nothing.
    """
    try:
        return [ReceivedCallback(**item) for item in value or ()]
    except TypeError:
        return []


def record_delivery(value: Any, callback: Callback, at: datetime) -> tuple[list[dict[str, Any]] | None, bool]:
    """
    Add a callback to what is remembered.

    :param value: What the store holds, ``None`` for nothing.
    :param callback: The callback.
    :param at: When it came.
    :return: The value to store, ``None`` when there is nothing to add, and whether its vendor task is new.
    """
    heard = {item.vendor_task_id: item for item in received_callbacks(value)}
    when = at.isoformat(timespec="milliseconds")
    before = heard.get(callback.task_id)
    if before is None:
        if len(heard) >= MAX_TASKS:
            return None, False
        message = "".join(c if c.isprintable() else " " for c in callback.message[:_MAX_MESSAGE])
        heard[callback.task_id] = ReceivedCallback(callback.task_id, callback.code, message, when, when)
    elif before.count >= MAX_DELIVERIES:
        return None, False
    else:
        heard[callback.task_id] = ReceivedCallback(
            **{**asdict(before), "last_at": when, "count": before.count + 1}
        )
    return [asdict(item) for item in heard.values()], before is None
