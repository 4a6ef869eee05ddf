"""Retries of a refused submit, and of recording its answer in the ledger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from airflow_provider_vocalsep.api.errors import VendorError, VendorUnreachableError, Verdict
from airflow_provider_vocalsep.ledger import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds for which a submit is sent again that the vendor refuses as "too fast"; then Airflow retries.
SUBMIT_PATIENCE = 600.0

#: The same for a batch, whose tracks share the vendor's window: their turn may be hours away.
PACED_PATIENCE = 6 * 3600.0

#: Tries to record the vendor's answer, over about a minute; outages of S3 are seldom longer.
_RECORD_TRIES = 7

#: Seconds until a refused submit is sent again, if the vendor names none: one, doubling up to thirty.
_PAUSE = wait_exponential(max=30) + wait_random(0, 2)


def retry_submit(sleep: Callable[[float], None], *, paced: bool = False) -> Retrying:
    """
    Return the tries of a submit. They repeat only after a refusal, which has created nothing.

    :param paced: Whether a gate spaces the tries; they then have no back-off.
    """
    return Retrying(
        retry=retry_if_exception(_nothing_created),
        wait=_pause_unless_refused if paced else _back_off,
        stop=stop_after_delay(PACED_PATIENCE if paced else SUBMIT_PATIENCE),
        before_sleep=_log_refusal,
        sleep=sleep,
        reraise=True,
    )


def retry_recording(sleep: Callable[[float], None]) -> Retrying:
    """Return the tries to record what was paid."""
    return Retrying(
        retry=retry_if_exception_type(LedgerError),
        wait=wait_exponential(multiplier=0.5, max=20) + wait_random(0, 1),
        stop=stop_after_attempt(_RECORD_TRIES),
        before_sleep=_log_unrecorded,
        sleep=sleep,
        reraise=True,
    )


def _nothing_created(error: BaseException) -> bool:
    if isinstance(error, VendorError):
        return error.verdict is Verdict.WAIT
    return isinstance(error, VendorUnreachableError)


def _log_refusal(state: RetryCallState) -> None:
    """Log a refusal, except those without a pause: by these a batch measures the vendor's rate."""
    if seconds := _pause(state):
        log.warning(
            "The submit was refused, nothing was paid: %s Sending it again in %.0f s.", _error(state), seconds
        )


def _log_unrecorded(state: RetryCallState) -> None:
    log.warning(
        "The vendor's answer is not in the ledger yet: %s Trying again in %.0f s.",
        _error(state),
        _pause(state),
    )


def _pause(state: RetryCallState) -> float:
    return state.next_action.sleep if state.next_action else 0.0


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _pause_unless_refused(state: RetryCallState) -> float:
    """Return a pause for a vendor that cannot be reached; a refused submit waits at the gate instead."""
    return _PAUSE(state) if isinstance(_error(state), VendorUnreachableError) else 0.0


def _back_off(state: RetryCallState) -> float:
    return max(getattr(_error(state), "retry_after", None) or 0.0, _PAUSE(state))
