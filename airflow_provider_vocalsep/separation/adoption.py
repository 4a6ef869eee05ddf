"""Finding out, by its callback, which vendor task a submit made whose answer was lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.ledger import Attach

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_provider_vocalsep.ledger import Ledger, TaskInstanceRef
    from airflow_provider_vocalsep.ledger.entry import Attempt
    from airflow_provider_vocalsep.separation.track_job import Separation

log = logging.getLogger(__name__)


class AwaitingCallback(Exception):
    """
    A submit's answer was lost and the vendor is to call back about it: wait, then secure again.

    :param message: What is waited for, and until when.
    :param attempt_id: The attempt that the callback will name.
    :param until: Until when it is worth waiting.
    """

    def __init__(self, message: str, attempt_id: str, until: datetime) -> None:
        super().__init__(message)
        self.attempt_id = attempt_id
        self.until = until


@dataclass(frozen=True)
class CallbackChannel:
    """
    The vendor's way to call a task instance back.

    :param url_of: Makes the address for an attempt.
    :param heard: Tells the vendor task of an attempt, if a callback has named it.
    :param grace: Seconds after a submit for which its callback is waited for, if its answer was lost.
    """

    url_of: Callable[[str], str]
    heard: Callable[[str], str | None]
    grace: float


def adopt(
    lost: Attempt,
    separation: Separation,
    *,
    line: CallbackChannel,
    ledger: Ledger,
    asked_by: TaskInstanceRef,
    then: str,
) -> Attach | None:
    """
    Take over the vendor task that a callback has named.

    :param lost: The attempt whose answer was lost.
    :param separation: What it submitted.
    :param line: How the vendor calls back.
    :param ledger: Where paid separations are kept.
    :param asked_by: Who asks; only what the attempt of the same task instance heard can be known.
    :param then: What happens when no callback comes, for the message.
    :return: ``None`` when no callback has come and none is to be expected any more.
    :raises AwaitingCallback: one is to be expected.
    """
    if not lost.calls_back or lost.asked_by.instance != asked_by.instance:
        return None
    key = separation.track.key
    vendor_task_id = line.heard(lost.attempt_id)
    if vendor_task_id is not None:
        log.info(
            "Track %r: the vendor called back about task %s; adopting it, nothing is paid again.",
            key,
            vendor_task_id,
        )
        ledger.record_submitted(separation.identity, lost.attempt_id, vendor_task_id, event="adopted")
        return Attach(vendor_task_id, ledger.now(), lost.attempt_id, reports_to=lost.asked_by)
    until = lost.claimed_at + timedelta(seconds=line.grace)
    if ledger.now() >= until:
        return None
    raise AwaitingCallback(
        f"Track {key!r} may have been paid for at {lost.claimed_at.isoformat(timespec='seconds')} and the vendor's "
        f"answer was lost. Waiting until {until.isoformat(timespec='seconds')} for its callback, which names the "
        f"vendor task (attempt {lost.attempt_id}); then {then}. Nothing is submitted meanwhile.",
        lost.attempt_id,
        until,
    )
