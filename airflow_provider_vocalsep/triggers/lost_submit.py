"""The trigger that waits for the callback which names the vendor task of a lost submit."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.triggers import LOST_SUBMIT_TRIGGER
from airflow_provider_vocalsep.triggers.resume_delay import DelayedTrigger


class LostSubmitTrigger(DelayedTrigger):
    """
    Wait for the receiver of callbacks to resume the Airflow task, until a deadline.

    It cannot poll: vendors list no tasks, and the vendor task id is what was lost.

    :param attempt_id: The attempt whose answer was lost; the receiver finds the deferred task instance by it.
    :param until: When to give up, in epoch seconds.
    """

    def __init__(self, attempt_id: str, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.attempt_id = attempt_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Serialize the arguments and the class path."""
        return LOST_SUBMIT_TRIGGER, {"attempt_id": self.attempt_id, "until": self.until}

    async def wait(self) -> dict[str, Any]:
        """Wait until the deadline."""
        await asyncio.sleep(max(0.0, self.until - time.time()))
        return {
            "status": WaitOutcome.GAVE_UP.value,
            "attempt_id": self.attempt_id,
            "message": "No callback came.",
        }
