"""Parse callback deliveries."""

from __future__ import annotations

from typing import Any

from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.api.fields import read_id, read_integer, read_object, read_text
from airflow_provider_vocalsep.api.links import stems_of
from airflow_provider_vocalsep.api.models import Callback

#: Keys of the stems: the first at sunoapi, on kie's Chinese page and for advanced stems, the second on kie's
#: English page.
_CONTAINERS = ("vocal_removal_info", "vocal_separation_info")


def parse_callback(body: bytes | dict[str, Any]) -> Callback:
    """
    Parse the body of a callback delivery.

    :return: The callback. Treat it as a hint: no vendor's signature covers the body.
    :raises UnreadableAnswerError: the body is not a callback.
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
