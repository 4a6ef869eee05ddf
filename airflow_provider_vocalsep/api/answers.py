"""
Parse the vendor's answers.

The result is in the body's ``code``. The HTTP status is 200 for nearly everything and counts only when the
body has no code. ``msg`` never decides anything: it comes in several languages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.codes import SUCCESS, Occasion, classify, classify_status
from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SubmitOutcomeUnknownError,
    UnreadableAnswerError,
    VendorError,
    Verdict,
)
from airflow_provider_vocalsep.api.fields import read_id, read_integer, read_object, read_text, read_time
from airflow_provider_vocalsep.api.links import stems_of
from airflow_provider_vocalsep.api.models import SeparationTask
from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.dialects import Dialect

#: What the user can do about a refusal, by the vendor's code.
_REMEDIES = {
    400: "Check the track's ids and the separation type.",
    401: "Check the API key in the connection's password field.",
    403: "Check the key's list of allowed addresses in the vendor's dashboard.",
    404: "Check the connection's host and dialect.",
    409: "The vendor already has this task: look it up there instead of submitting it again.",
    422: "Check the track's ids: the vendor has no such record, or a field is missing.",
    433: "The spending cap of this API key is reached: raise it in the vendor's dashboard.",
    451: "Check that the vendor can download the track's audio_url.",
    455: "The vendor is under maintenance: try again in a few minutes.",
}

#: What the user can do about a refusal whose code is not in ``_REMEDIES``.
_REMEDIES_BY_VERDICT = {
    Verdict.WAIT: "Too many calls at once: try again later.",
    Verdict.RETRY: "This may be temporary: try the same read again later.",
    Verdict.FATAL: "The vendor will refuse the same call again: check the connection's host and dialect.",
    Verdict.OUT_OF_CREDITS: (
        "The account is out of credits. Nothing was charged: top it up, then clear this Airflow task."
    ),
}


def parse_submit(status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None) -> str:
    """
    Parse the answer to a submit.

    :param retry_after: Seconds from the ``Retry-After`` header.
    :return: The vendor's task id.
    :raises OutOfCreditsError: the vendor refused because the balance does not cover the submit.
    :raises VendorError: the vendor refused; no task was created or charged.
    :raises SubmitOutcomeUnknownError: the answer does not show whether a task was created and charged.
    """
    answer = read_object(body) or {}
    code = read_integer(answer.get("code"))
    if code in SUCCESS:
        data = answer.get("data")
        task_id = _read_task_id(data) if isinstance(data, dict) else None
        if task_id is None:
            raise _outcome_unknown(f"says success but names no task: {_excerpt(body)}")
        return task_id
    if code is None:
        verdict = classify_status(status)
        if 300 <= status < 500 and verdict is not Verdict.RETRY:
            # A proxy or a router refused: the request never reached the vendor's application.
            raise _refusal(status, f"HTTP {status}", "", verdict, dialect, retry_after)
        raise _outcome_unknown(f"cannot be read (HTTP {status}): {_excerpt(body)}")
    verdict, vendor_message = classify(code, dialect, Occasion.SUBMIT), _vendor_message(answer)
    if verdict is Verdict.RETRY or not 400 <= code < 600:
        # The vendor may send the same server error before and after it creates the task.
        raise _outcome_unknown(
            f"is code {code} ({vendor_message!r}), which does not say whether a task was created"
        )
    raise _refusal(code, f"code {code}", vendor_message, verdict, dialect, retry_after)


def parse_record(
    status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None
) -> SeparationTask | None:
    """
    Parse a task's record.

    :param retry_after: Seconds from the ``Retry-After`` header.
    :return: The record; ``None`` when the vendor does not know the task, or not yet (``data: null``).
    :raises OutOfCreditsError: the vendor refused because the balance does not cover the call.
    :raises VendorError: the vendor refused.
    :raises UnreadableAnswerError: the answer is not a record.
    """
    data = _parse_data(status, body, dialect, retry_after)
    if data is None:
        return None
    if not isinstance(data, dict):
        raise UnreadableAnswerError(f"The record is not an object: {_excerpt(body)}")
    task_id = _read_task_id(data)
    if task_id is None:
        raise UnreadableAnswerError(f"The record has no task id: {_excerpt(body)}")
    try:
        task_status = TaskStatus(data.get("successFlag"))
    except ValueError:
        flag = repr(data.get("successFlag"))[:80]
        raise UnreadableAnswerError(
            f"The record of task {task_id} has an unknown successFlag {flag}."
        ) from None
    return SeparationTask(
        task_id=task_id,
        status=task_status,
        stems=stems_of(data.get("response")),
        music_id=read_id(data.get("musicId")),
        created_at=read_time(data.get("createTime")),
        completed_at=read_time(data.get("completeTime")),
        error_code=read_integer(data.get("errorCode")),
        error_message=read_text(data.get("errorMessage")),
        raw=data,
    )


def parse_credits(status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None) -> float:
    """
    Parse the account's balance.

    :param retry_after: Seconds from the ``Retry-After`` header.
    :return: Credits left; kie counts in fractions.
    :raises VendorError: the vendor refused.
    :raises UnreadableAnswerError: the answer is not a number.
    """
    data = _parse_data(status, body, dialect, retry_after)
    if isinstance(data, dict):
        data = data.get("credits")
    try:
        balance = float(data) if not isinstance(data, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        balance = math.nan
    if not math.isfinite(balance):
        raise UnreadableAnswerError(f"The balance is not a number: {_excerpt(body)}")
    return balance


def _parse_data(status: int, body: bytes, dialect: Dialect, retry_after: float | None) -> Any:
    """Return ``data`` of the answer to a read."""
    answer = read_object(body) or {}
    code = read_integer(answer.get("code"))
    if code in SUCCESS:
        return answer.get("data")
    if code is not None:
        verdict = classify(code, dialect, Occasion.READ)
        raise _refusal(code, f"code {code}", _vendor_message(answer), verdict, dialect, retry_after)
    if 400 <= status < 600:
        raise _refusal(status, f"HTTP {status}", "", classify_status(status), dialect, retry_after)
    raise UnreadableAnswerError(f"The vendor's answer cannot be read (HTTP {status}): {_excerpt(body)}")


def _refusal(
    code: int,
    quoted_code: str,
    vendor_message: str,
    verdict: Verdict,
    dialect: Dialect,
    retry_after: float | None,
) -> VendorError:
    quoted_message = f": {vendor_message!r}." if vendor_message else "."
    remedy = _REMEDIES.get(code) or _REMEDIES_BY_VERDICT.get(verdict, "")
    error = OutOfCreditsError if verdict is Verdict.OUT_OF_CREDITS else VendorError
    return error(
        f"The vendor ({dialect.name}) refused with {quoted_code}{quoted_message} {remedy}".strip(),
        verdict=verdict,
        code=code,
        vendor_message=vendor_message,
        retry_after=retry_after,
    )


def _outcome_unknown(problem: str) -> SubmitOutcomeUnknownError:
    return SubmitOutcomeUnknownError(
        f"The vendor's answer to the submit {problem}. It may have accepted and charged it."
    )


def _read_task_id(data: dict[str, Any]) -> str | None:
    return read_id(data.get("taskId")) or read_id(data.get("task_id"))


def _vendor_message(answer: dict[str, Any]) -> str:
    return read_text(answer.get("msg")) or ""


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
