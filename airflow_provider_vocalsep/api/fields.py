"""Read single fields of the vendor's JSON, whose values may be anything. None of these functions raises."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter, ValidationError

#: Characters of the vendor's text that are kept: a page of HTML would bury the message that quotes it.
_LONGEST_TEXT = 500

#: Characters allowed in an id. Documented ids have 32 (tasks) and 36 (audio).
_LONGEST_ID = 200

_time = TypeAdapter(datetime)


def read_object(body: bytes | str) -> dict[str, Any] | None:
    """Read a JSON object; return ``None`` for anything else."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def read_integer(value: Any) -> int | None:
    """Read an integer, also from text; return ``None`` for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    return None


def read_id(value: Any) -> str | None:
    """Read an id of printable ASCII, safe in URLs, file names and messages; return ``None`` for any other."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**20 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    return text if 0 < len(text) <= _LONGEST_ID and text.isascii() and text.isprintable() else None


def read_text(value: Any) -> str | None:
    """Read text meant for people; return ``None`` when there is none."""
    if not isinstance(value, str) or not value.strip():
        return None
    # JSON can hold half a surrogate pair, which no file, database or terminal accepts.
    return value[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def read_length(value: Any) -> float | None:
    """Read a length in seconds; return ``None`` for what cannot be the length of a track."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e7 and math.isfinite(value) else None


def read_time(value: Any) -> datetime | None:
    """
    Read a time in any format that the vendors' pages show.

    :param value: Epoch milliseconds (or seconds) as number or text, ISO 8601, or ``YYYY-MM-DD hh:mm:ss``.
    :return: The time in UTC; a time without zone is taken as UTC. ``None`` for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        moment = _time.validate_python(value.strip() if isinstance(value, str) else value)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValidationError, ValueError, OverflowError):
        return None
