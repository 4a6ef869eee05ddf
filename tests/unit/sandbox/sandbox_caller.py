"""A plain client of the sandbox, independent of the package's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.server import RunningSandbox

NO_CALLBACK = "https://callback.invalid/vocalsep"
SUBMIT = "/api/v1/vocal-removal/generate"
READ = "/api/v1/vocal-removal/record-info"


class Caller:
    def __init__(self, sandbox: RunningSandbox, key: str | None = None) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {key or sandbox.api_key}"
        self.song = sandbox.catalogue()[0]

    def get(self, path: str, **arguments: Any) -> requests.Response:
        url = path if path.startswith("http") else self.sandbox.url + path
        return self.session.get(url, timeout=30, **arguments)

    def submit(self, **fields: Any) -> requests.Response:
        """Submit the first song with the given fields; ``None`` leaves a field out."""
        own_file = "audioUrl" in fields
        ids = {} if own_file else {"taskId": self.song["task_id"], "audioId": self.song["audio_id"]}
        body = {**ids, "type": "separate_vocal", "callBackUrl": NO_CALLBACK, **fields}
        body = {name: value for name, value in body.items() if value is not None}
        return self.session.post(self.sandbox.url + SUBMIT, json=body, timeout=30)

    def accepted(self, **fields: Any) -> str:
        answer = self.submit(**fields).json()
        assert answer["code"] == 200, answer
        return answer["data"]["taskId"]

    def record(self, vendor_task_id: str) -> Any:
        return self.get(READ, params={"taskId": vendor_task_id}).json()["data"]

    def finished(self, vendor_task_id: str) -> Any:
        """Wait for the end of a task, and return its record."""
        return wait_for(lambda: (data := self.record(vendor_task_id)) and data["completeTime"] and data)

    def separated(self, **fields: Any) -> Any:
        return self.finished(self.accepted(**fields))


def wait_for(read: Callable[[], Any], seconds: float = 20) -> Any:
    """Call a function until it returns a true value, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)
    return value
