"""
Reading the vendor's answers.

The result is in the body's ``code``; the HTTP status is 200 for nearly everything and counts only when there is no
code. Nothing is ever decided by ``msg``: it comes in several languages.
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

#: What to do about a refusal, by its code.
_REMEDIES = {
    400: "Check the track's ids and the separation type.",
    401: "Check the API key in the connection's password field.",
    403: "Check the key's list of allowed addresses in the vendor's dashboard.",
    404: "Check the connection's host and dialect.",
    409: "The vendor has this one already: look the task up there instead of submitting it again.",
    422: "Check the track's ids: the vendor has no such record, or a field is missing.",
    433: "The key's own spending cap is reached: raise it in the vendor's dashboard.",
    451: "Check that the vendor can download the track's audio_url.",
    455: "The vendor is under maintenance: try again in some minutes.",
}

#: The same for codes that have no remedy of their own.
_REMEDIES_BY_VERDICT = {
    Verdict.WAIT: "Too many calls at once: try again a little later.",
    Verdict.RETRY: "This may pass: the same read may work a little later.",
    Verdict.FATAL: "The same call will be refused again: check the connection's host and dialect.",
}


def parse_submit(status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None) -> str:
    """
    Read the answer to a submit.

    :param status: HTTP status.
    :param body: HTTP body.
    :param dialect: Whose answer it is.
    :param retry_after: Seconds of the ``Retry-After`` header, if it was sent.
    :return: The vendor's task id.
    :raises OutOfCreditsError: refused for want of credits.
    :raises VendorError: refused; nothing was created or charged.
    :raises SubmitOutcomeUnknownError: it cannot be told from this answer whether the task was created and charged.
    """
    answer = read_object(body) or {}
    code = read_integer(answer.get("code"))
    if code in SUCCESS:
        data = answer.get("data")
        task_id = _task_id(data) if isinstance(data, dict) else None
        if task_id is None:
            raise _doubt(f"says success and names no task: {_excerpt(body)}")
        return task_id
    if code is None:
        verdict = classify_status(status)
        if 300 <= status < 500 and verdict is not Verdict.RETRY:
            # Turned away by a proxy or a router: the vendor's application never saw it.
            raise _refusal(status, f"HTTP {status}", "", verdict, dialect, retry_after)
        raise _doubt(f"cannot be read (HTTP {status}): {_excerpt(body)}")
    verdict, said = classify(code, dialect, Occasion.SUBMIT), _words(answer)
    if verdict is Verdict.RETRY or not 400 <= code < 600:
        # A server error after the task was made looks just like one before it.
        raise _doubt(f"is code {code} ({said!r}), which does not say whether a task was made")
    raise _refusal(code, f"code {code}", said, verdict, dialect, retry_after)


def parse_record(
    status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None
) -> SeparationTask | None:
    """
    Read a task's record.

    :param status: HTTP status.
    :param body: HTTP body.
    :param dialect: Whose answer it is.
    :param retry_after: Seconds of the ``Retry-After`` header, if it was sent.
    :return: The record, ``None`` when the vendor does not know the task, or not yet (``data: null``).
    :raises OutOfCreditsError: refused for want of credits.
    :raises VendorError: the vendor refused.
    :raises UnreadableAnswerError: the answer is not a record.
    """
    data = _data(status, body, dialect, retry_after)
    if data is None:
        return None
    if not isinstance(data, dict):
        raise UnreadableAnswerError(f"The record is not an object: {_excerpt(body)}")
    task_id = _task_id(data)
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
    Read the balance.

    :param status: HTTP status.
    :param body: HTTP body.
    :param dialect: Whose answer it is.
    :param retry_after: Seconds of the ``Retry-After`` header, if it was sent.
    :return: Credits left; kie counts in fractions.
    :raises VendorError: the vendor refused.
    :raises UnreadableAnswerError: the answer is not a number.
    """
    data = _data(status, body, dialect, retry_after)
    if isinstance(data, dict):
        data = data.get("credits")
    try:
        balance = float(data) if not isinstance(data, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        balance = math.nan
    if not math.isfinite(balance):
        raise UnreadableAnswerError(f"The balance is not a number: {_excerpt(body)}")
    return balance


def _data(status: int, body: bytes, dialect: Dialect, retry_after: float | None) -> Any:
    answer = read_object(body) or {}
    code = read_integer(answer.get("code"))
    if code in SUCCESS:
        return answer.get("data")
    if code is not None:
        verdict = classify(code, dialect, Occasion.READ)
        raise _refusal(code, f"code {code}", _words(answer), verdict, dialect, retry_after)
    if 400 <= status < 600:
        raise _refusal(status, f"HTTP {status}", "", classify_status(status), dialect, retry_after)
    raise UnreadableAnswerError(f"The vendor's answer cannot be read (HTTP {status}): {_excerpt(body)}")


def _refusal(
    code: int, shown: str, said: str, verdict: Verdict, dialect: Dialect, retry_after: float | None
) -> VendorError:
    words = f": {said!r}." if said else "."
    refused = f"The vendor ({dialect.name}) refused with {shown}{words}"
    if verdict is Verdict.OUT_OF_CREDITS:
        return OutOfCreditsError(
            f"{refused} The account is out of credits. Nothing was charged: top it up, then clear this Airflow task.",
            verdict=verdict, code=code, vendor_message=said, retry_after=retry_after,
        )  # fmt: skip
    remedy = _REMEDIES.get(code) or _REMEDIES_BY_VERDICT.get(verdict, "")
    return VendorError(
        f"{refused} {remedy}".strip(),
        verdict=verdict,
        code=code,
        vendor_message=said,
        retry_after=retry_after,
    )


def _doubt(what: str) -> SubmitOutcomeUnknownError:
    return SubmitOutcomeUnknownError(
        f"The vendor's answer to the submit {what}. It may have accepted and charged it."
    )


def _task_id(data: dict[str, Any]) -> str | None:
    return read_id(data.get("taskId")) or read_id(data.get("task_id"))


def _words(answer: dict[str, Any]) -> str:
    return read_text(answer.get("msg")) or ""


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
