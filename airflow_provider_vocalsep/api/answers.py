"""
Reading the vendor's answers.

The result is in the body's ``code``; the HTTP status is 200 for nearly everything and counts only when there is no
code. Nothing is ever decided by ``msg``: it comes in several languages.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.codes import Occasion, classify
from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SubmitOutcomeUnknownError,
    UnreadableAnswerError,
    VendorError,
    Verdict,
)
from airflow_provider_vocalsep.api.links import stems_of
from airflow_provider_vocalsep.api.models import SeparationTask
from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.dialects import Dialect

#: ``0`` is not documented; clients in the field accept it beside 200.
_SUCCESS = (0, 200)

_REMEDIES = {
    401: "Check the API key in the connection's password field.",
    404: "Check the connection's host and dialect.",
    422: "Check the track's ids: the vendor has no such record, or a field is missing.",
    433: "The key's own spending cap is reached; raise it in the vendor's dashboard.",
    455: "The vendor is under maintenance; it is tried again later.",
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
    answer = _json_object(body)
    code = _code(answer) if answer else None
    if code in _SUCCESS:
        data = answer.get("data") if answer else None
        task_id = data.get("taskId") or data.get("task_id") if isinstance(data, dict) else None
        if isinstance(task_id, str) and task_id:
            return task_id
        raise _doubt(f"says success and names no task: {_excerpt(body)}")
    if code is None:
        if 300 <= status < 500:  # a proxy's or a router's refusal: the vendor's application never saw it
            raise _refusal(status, "", dialect, Occasion.SUBMIT, retry_after, f"HTTP {status}")
        raise _doubt(f"cannot be read (HTTP {status}): {_excerpt(body)}")
    if classify(code, dialect, Occasion.SUBMIT) is Verdict.RETRY:
        # A server error after the task was made looks just like one before it.
        raise _doubt(f"is a server error, code {code}: {_message(answer)!r}")
    raise _refusal(code, _message(answer), dialect, Occasion.SUBMIT, retry_after)


def parse_record(
    status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None
) -> SeparationTask | None:
    """
    Read a task's record.

    :return: The record, ``None`` when the vendor does not know the task (``data: null``).
    :raises VendorError: the vendor refused.
    :raises UnreadableAnswerError: the answer is not a record.
    """
    data = _data(status, body, dialect, retry_after)
    if data is None:
        return None
    if not isinstance(data, dict):
        raise UnreadableAnswerError(f"The record is not an object: {_excerpt(body)}")
    task_id = data.get("taskId") or data.get("task_id")
    if not isinstance(task_id, str):
        raise UnreadableAnswerError(f"The record has no task id: {_excerpt(body)}")
    try:
        task_status = TaskStatus(data.get("successFlag"))
    except ValueError:
        raise UnreadableAnswerError(
            f"The record of task {task_id} has an unknown successFlag {data.get('successFlag')!r}."
        ) from None
    return SeparationTask(
        task_id=task_id,
        status=task_status,
        stems=stems_of(data.get("response")),
        music_id=_text(data.get("musicId")),
        created_at=parse_time(data.get("createTime")),
        completed_at=parse_time(data.get("completeTime")),
        error_code=read_integer(data.get("errorCode")),
        error_message=_text(data.get("errorMessage")),
        raw=data,
    )


def parse_credits(status: int, body: bytes, dialect: Dialect, *, retry_after: float | None = None) -> float:
    """
    Read the balance.

    :return: Credits left.
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


def parse_time(value: Any) -> datetime | None:
    """
    Read a time in any of the forms that the vendor's pages show.

    :param value: Epoch milliseconds as number or text, ISO 8601, or ``YYYY-MM-DD hh:mm:ss``.
    :return: The time in UTC (a time without zone is taken as UTC); ``None`` when it is none of these.
    """
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float) or (
            isinstance(value, str) and re.fullmatch(r"\d{9,16}", value.strip())
        ):
            return datetime.fromtimestamp(float(value) / 1000, tz=timezone.utc)
        if isinstance(value, str):
            # Python 3.10 does not know the "Z".
            moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value.strip()))
            return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _data(status: int, body: bytes, dialect: Dialect, retry_after: float | None) -> Any:
    answer = _json_object(body)
    code = _code(answer) if answer else None
    if answer is None or code is None:
        if 400 <= status < 600:
            raise _refusal(status, "", dialect, Occasion.READ, retry_after, f"HTTP {status}")
        raise UnreadableAnswerError(f"The vendor's answer cannot be read (HTTP {status}): {_excerpt(body)}")
    if code not in _SUCCESS:
        raise _refusal(code, _message(answer), dialect, Occasion.READ, retry_after)
    return answer.get("data")


def _refusal(
    code: int,
    said: str,
    dialect: Dialect,
    occasion: Occasion,
    retry_after: float | None,
    shown: str | None = None,
) -> VendorError:
    verdict = classify(code, dialect, occasion)
    what = f"The vendor ({dialect.name}) refused with {shown or f'code {code}'}" + (
        f": {said!r}." if said else "."
    )
    if verdict is Verdict.OUT_OF_CREDITS:
        return OutOfCreditsError(
            f"{what} The account is out of credits. Nothing was charged; top it up, then clear this Airflow task.",
            verdict=verdict, code=code, vendor_message=said, retry_after=retry_after,
        )  # fmt: skip
    remedy = "" if verdict is Verdict.WAIT and code != 455 else _REMEDIES.get(code, "")
    return VendorError(
        f"{what} {remedy}".strip(), verdict=verdict, code=code, vendor_message=said, retry_after=retry_after
    )


def _doubt(what: str) -> SubmitOutcomeUnknownError:
    return SubmitOutcomeUnknownError(
        f"The vendor's answer to the submit {what}. It may have accepted and charged it."
    )


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _code(answer: dict[str, Any]) -> int | None:
    return read_integer(answer.get("code"))


def read_integer(value: Any) -> int | None:
    """Read an integer that may be written as text; ``None`` for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    return None


def _message(answer: dict[str, Any] | None) -> str:
    message = (answer or {}).get("msg")
    return message[:500] if isinstance(message, str) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
