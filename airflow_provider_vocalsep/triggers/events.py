"""The event that the trigger yields and the operator takes apart."""

from __future__ import annotations

from typing import Any

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.separation.polling import WaitOutcome


class InvalidEventError(VocalSepError):
    """A deferred task was resumed with something else than our trigger's event."""


def validate_event(event: dict[str, Any] | None) -> tuple[WaitOutcome, str, str]:
    """
    Take an event apart; an unknown status is never taken for success.

    :param event: What the task was resumed with.
    :return: How the wait ended, the vendor task id, and the message.
    :raises InvalidEventError: it is not an event of ours. A retry attaches to the vendor task again.
    """
    try:
        return WaitOutcome(event["status"]), str(event["vendor_task_id"]), str(event.get("message", ""))  # type: ignore[index, union-attr]
    except (KeyError, TypeError, ValueError) as e:
        raise InvalidEventError(
            f"The wait was resumed with {event!r}, which is not an event of this provider's trigger. Nothing is "
            "lost: a retry attaches to the vendor task again."
        ) from e


def parse_batch_event(event: dict[str, Any] | None) -> dict[str, tuple[WaitOutcome, str]]:
    """
    Parse an event of the batch trigger, or of the receiver of callbacks.

    :param event: What the task was resumed with.
    :return: How each vendor task ended, and the message about it.
    :raises InvalidEventError: it is not an event of ours. A retry goes on from the ledger.
    """
    try:
        ended = (event or {}).get("ended", {})
        return {
            task_id: (WaitOutcome(outcome), str(message)) for task_id, (outcome, message) in ended.items()
        }
    except (AttributeError, TypeError, ValueError) as e:
        raise InvalidEventError(
            f"The wait was resumed with {event!r}, which is not an event of this provider's trigger. Nothing is lost: a "
            "retry goes on from the ledger."
        ) from e
