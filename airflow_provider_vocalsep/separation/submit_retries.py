"""How long a submit that is turned away is tried again, and the ledger that does not take its answer."""

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

#: Seconds for which a submit that the vendor turns away as "too fast" is tried again before the Airflow task
#: is left to its own retries.
SUBMIT_PATIENCE = 600.0

#: The same for one of many that share the vendor's window: it may be long until it is its turn.
PACED_PATIENCE = 6 * 3600.0

#: Tries to write down the vendor's answer. With the waits between them about a minute; S3 is seldom away
#: longer.
_RECORD_TRIES = 7

#: Seconds between submits that the vendor turned away, when it names none itself: one, doubling up to thirty.
_PAUSE = wait_exponential(max=30) + wait_random(0, 2)


def retry_submit(sleep: Callable[[float], None], *, paced: bool = False) -> Retrying:
    """
    Return the tries of a submit: again only after a refusal, which has created nothing.

    :param sleep: How to wait, in seconds.
    :param paced: Whether a gate spaces the tries, so that they need no back-off of their own.
    """
    return Retrying(
        retry=retry_if_exception(_nothing_created),
        wait=_paced if paced else _back_off,
        stop=stop_after_delay(PACED_PATIENCE if paced else SUBMIT_PATIENCE),
        before_sleep=_tell_turned_away,
        sleep=sleep,
        reraise=True,
    )


def retry_recording(sleep: Callable[[float], None]) -> Retrying:
    """
    Return the tries to write down what was paid.

    :param sleep: How to wait, in seconds.
    """
    return Retrying(
        retry=retry_if_exception_type(LedgerError),
        wait=wait_exponential(multiplier=0.5, max=20) + wait_random(0, 1),
        stop=stop_after_attempt(_RECORD_TRIES),
        before_sleep=_tell_not_recorded,
        sleep=sleep,
        reraise=True,
    )


def _nothing_created(error: BaseException) -> bool:
    if isinstance(error, VendorError):
        return error.verdict is Verdict.WAIT
    return isinstance(error, VendorUnreachableError)


def _tell_turned_away(state: RetryCallState) -> None:
    """Log a refusal, but not those without a pause: a batch finds the vendor's pace by them."""
    if seconds := _pause_before(state):
        log.warning(
            "The submit was turned away, nothing was paid: %s Sending it again in %.0f s.",
            _error(state),
            seconds,
        )


def _tell_not_recorded(state: RetryCallState) -> None:
    log.warning(
        "The vendor's answer is not in the ledger yet: %s Writing it again in %.0f s.",
        _error(state),
        _pause_before(state),
    )


def _pause_before(state: RetryCallState) -> float:
    return state.next_action.sleep if state.next_action else 0.0


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _paced(state: RetryCallState) -> float:
    """Wait for a vendor that could not be reached; what was turned away waits at the gate."""
    error = _error(state)
    return _PAUSE(state) if isinstance(error, VendorUnreachableError) else 0.0


def _back_off(state: RetryCallState) -> float:
    error = _error(state)
    asked_for = getattr(error, "retry_after", None) or 0.0
    return max(asked_for, _PAUSE(state))
