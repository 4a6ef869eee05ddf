"""Finding the vendor task of a submit whose answer was lost, by its callback."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.ledger import Attach
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_vocalsep.ledger import Identity
    from airflow_provider_vocalsep.ledger.entry import Attempt
    from airflow_provider_vocalsep.separation.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AwaitingCallback:
    """
    A submit's answer was lost, and its callback may still come: wait for it, then secure the track again.

    :param attempt_id: The attempt that the callback will name.
    :param until: End of the wait.
    :param message: For the log: which callback, until when, and what happens then.
    """

    attempt_id: str
    until: datetime
    message: str


def adopt(
    lost: Attempt, identity: Identity, track_key: str, runtime: Runtime
) -> Attach | AwaitingCallback | None:
    """
    Adopt the vendor task that a callback about a lost submit names.

    :param lost: The attempt whose answer was lost.
    :return: ``None`` if no callback has come, and none can come any more.
    """
    ledger, callbacks, policy = runtime.ledger, runtime.callbacks, runtime.options.on_lost_submit
    if not callbacks.enabled or policy is OnLostSubmit.FAIL:
        return None
    if not lost.calls_back or lost.asked_by.instance != runtime.asked_by.instance:
        return None
    vendor_task_id = callbacks.vendor_task_of(lost.attempt_id)
    if vendor_task_id is not None:
        log.info(
            "Track %r: the vendor called back about task %s; adopting it, nothing is paid again.",
            track_key,
            vendor_task_id,
        )
        ledger.record_submitted(identity, lost.attempt_id, vendor_task_id, event="adopted")
        return Attach(vendor_task_id, ledger.now(), lost.attempt_id, reports_to=lost.asked_by)
    until = lost.claimed_at + timedelta(seconds=runtime.options.adoption_grace)
    if ledger.now() >= until:
        return None
    return AwaitingCallback(
        lost.attempt_id,
        until,
        f"Track {track_key!r} may have been paid for at {lost.claimed_at.isoformat(timespec='seconds')} and "
        f"the vendor's answer was lost. Waiting until {until.isoformat(timespec='seconds')} for its "
        f"callback, which names the vendor task (attempt {lost.attempt_id}); then "
        f"on_lost_submit={policy.value!r} decides. Nothing is submitted meanwhile.",
    )
