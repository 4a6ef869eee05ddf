"""The events of the triggers, as operators and sensor receive them."""

from __future__ import annotations

from typing import Any

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.separation.polling import WaitOutcome


class InvalidEventError(VocalSepError):
    """
    A deferred task was resumed with something other than an event of this provider's triggers.

    :param event: What it was resumed with.
    :param retry: What a retry does, for the message.
    """

    def __init__(self, event: object, retry: str) -> None:
        super().__init__(
            f"The wait was resumed with {event!r}, which is not an event of this provider's trigger. Nothing "
            f"is lost: a retry {retry}."
        )


def validate_event(event: dict[str, Any] | None) -> tuple[WaitOutcome, str, str]:
    """
    Validate an event; an unknown status never counts as success.

    :return: How the wait ended, the vendor task id, and the message.
    :raises InvalidEventError: it is not an event of this provider. A retry attaches to the vendor task again.
    """
    fields: Any = event
    try:
        return WaitOutcome(fields["status"]), str(fields["vendor_task_id"]), str(fields.get("message", ""))
    except (KeyError, TypeError, ValueError) as e:
        raise InvalidEventError(event, "attaches to the vendor task again") from e


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
        raise InvalidEventError(event, "goes on from the ledger") from e
