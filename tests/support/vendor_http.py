"""Paths and answers of the vendor's API, for tests of the HTTP clients."""

from __future__ import annotations

from typing import Any

SUBMIT_PATH = "/api/v1/vocal-removal/generate"
RECORD_PATH = "/api/v1/vocal-removal/record-info"

#: Answer to the read of a task that is still running.
PENDING_RECORD: dict[str, Any] = {
    "code": 200,
    "msg": "success",
    "data": {"taskId": "T1", "successFlag": "PENDING", "response": None},
}
