"""The event of the trigger of a single vendor task, as operator and sensor receive it."""

from __future__ import annotations

from typing import Any

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.separation.polling import WaitOutcome


class InvalidEventError(VocalSepError):
    """A deferred task was resumed with something other than an event of this provider's triggers."""


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
        raise InvalidEventError(
            f"The wait was resumed with {event!r}, which is not an event of this provider's trigger. Nothing "
            "is lost: a retry attaches to the vendor task again."
        ) from e
