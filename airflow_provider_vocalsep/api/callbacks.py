"""Reading callback deliveries."""

from __future__ import annotations

from typing import Any

from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.api.fields import read_id, read_integer, read_object, read_text
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
    delivery = read_object(body) if isinstance(body, bytes) else body
    if not isinstance(delivery, dict):
        raise UnreadableAnswerError("The callback is not a JSON object.")
    data = delivery["data"] if isinstance(delivery.get("data"), dict) else {}
    code = read_integer(delivery.get("code"))
    spellings = (delivery.get("taskId"), data.get("taskId"), data.get("task_id"), delivery.get("task_id"))
    task_id = next((found for found in map(read_id, spellings) if found), None)
    if code is None or task_id is None:
        raise UnreadableAnswerError("The callback has no code or no task id.")
    container = next((data[name] for name in _CONTAINERS if isinstance(data.get(name), dict)), None)
    return Callback(
        task_id=task_id,
        code=code,
        message=read_text(delivery.get("msg")) or "",
        stems=stems_of(container),
    )
