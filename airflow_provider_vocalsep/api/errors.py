"""The provider's error tree. Each message says what to do next."""

from __future__ import annotations

from enum import Enum


class Verdict(str, Enum):
    """
    What a vendor code means for the caller.

    The same number means opposite things at different vendors (429), so a verdict always follows from
    dialect, code and occasion; see :mod:`airflow_provider_vocalsep.api.codes`.
    """

    OK = "ok"
    #: Temporary error: the same call may succeed later. A submit must still not be repeated blindly.
    RETRY = "retry"
    #: Refused because of rate or maintenance; nothing was created or charged. Call again later.
    WAIT = "wait"
    #: Fails again the same way until a person changes something.
    FATAL = "fatal"
    #: The account is out of credits.
    OUT_OF_CREDITS = "out_of_credits"
    #: The task failed and its credits were refunded: a new submit costs nothing extra.
    REFUNDED = "refunded"


class VocalSepError(Exception):
    """
    Base of every error that this provider raises.

    :cvar retryable: Whether a retry of the Airflow task may succeed. ``False`` where a person has to change
        something first.
    """

    retryable = True


class StoppedError(VocalSepError):
    """Airflow has stopped the task. A retry continues from the ledger."""


class TrackError(VocalSepError, ValueError):
    """A track, separation type or stem name cannot be submitted as it is."""

    retryable = False


class UnreadableAnswerError(VocalSepError):
    """The vendor's answer is not what its contract says (HTML, truncated JSON, a missing field)."""


class VendorUnreachableError(VocalSepError):
    """No connection was established: the vendor never received the request."""


class AnswerLostError(VocalSepError):
    """The request was sent and no answer arrived. A read may be repeated."""


class VendorError(VocalSepError):
    """
    The vendor answered with a code other than success.

    :param message: What happened and what to do next.
    :param code: The vendor's code from the body, or the HTTP status when the body has none.
    :param vendor_message: The vendor's text (``msg`` or ``errorMessage``), may be empty.
    :param retry_after: Seconds from the ``Retry-After`` header.
    """

    def __init__(
        self,
        message: str,
        *,
        verdict: Verdict,
        code: int | None = None,
        vendor_message: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.code = code
        self.vendor_message = vendor_message
        self.retry_after = retry_after
        self.retryable = verdict not in (Verdict.FATAL, Verdict.OUT_OF_CREDITS)


class OutOfCreditsError(VendorError):
    """The account's balance does not cover the call."""


class SubmitOutcomeUnknownError(VocalSepError):
    """
    A submit was sent but its answer was lost: the vendor may have accepted and charged it.

    Never repeat such a submit blindly: the vendor has no idempotency key.
    """

    retryable = False


class SeparationFailedError(VendorError):
    """The vendor accepted the task and then could not separate the track."""
