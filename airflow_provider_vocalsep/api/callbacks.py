"""Reading callback deliveries."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_vocalsep.api.answers import read_integer
from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.api.links import stems_of
from airflow_provider_vocalsep.api.models import Callback

#: Where the stems are: sunoapi, kie's Chinese page and advanced stems; kie's English page.
_CONTAINERS = ("vocal_removal_info", "vocal_separation_info")


def parse_callback(body: bytes | dict[str, Any]) -> Callback:
    """
    Read the body of a delivery.

    :param body: The HTTP body, or the object in it.
    :return: What it says. A hint only: it is not covered by any vendor's signature.
    :raises UnreadableAnswerError: it is not a delivery.
    """
    if isinstance(body, bytes):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise UnreadableAnswerError("The callback is not JSON.") from e
    if not isinstance(body, dict):
        raise UnreadableAnswerError("The callback is not a JSON object.")
    data = body["data"] if isinstance(body.get("data"), dict) else {}
    code = read_integer(body.get("code"))
    task_id = next(
        (i for i in (body.get("taskId"), data.get("taskId"), data.get("task_id"), body.get("task_id")) if i),
        None,
    )
    if code is None or not isinstance(task_id, str):
        raise UnreadableAnswerError("The callback has no code or no task id.")
    message = body.get("msg")
    container = next((data[name] for name in _CONTAINERS if isinstance(data.get(name), dict)), None)
    return Callback(
        task_id=task_id,
        code=code,
        message=message if isinstance(message, str) else "",
        stems=stems_of(container),
    )
