"""
Coverage-guided fuzzing of the callback receiver: the answer to any request has a documented status.

    make fuzz                               # a minute
    make fuzz ARGS="-max_total_time=600"    # libFuzzer's options

Half of the requests carry a valid token, so that their body is parsed. No other request may reach the
database.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import atheris

SECRET = "fuzz-secret-0123456789"
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="vocalsep-fuzz-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW_CONN_VOCALSEP_DEFAULT"] = json.dumps(
    {
        "conn_type": "vocalsep",
        "password": "key",
        "extra": {"callback_base_url": "https://airflow.example.com", "callback_secret": SECRET},
    }
)

with atheris.instrument_imports(include=["airflow_provider_vocalsep"]):
    from airflow_provider_vocalsep.callbacks import receiver, resume
    from airflow_provider_vocalsep.callbacks.token import CallbackClaims, mint

logging.disable(logging.CRITICAL)

CLAIMS = CallbackClaims("vocalsep_default", "dag", "run", "task", -1, "attempt", int(time.time()) + 86400)
VALID = mint(CLAIMS, SECRET)
KINDS = [b"application/json", b"application/json; charset=utf-8", b"text/plain", b""]
GENUINE = b"\x00"
SEEDS = [
    {
        "code": 200,
        "msg": "done",
        "data": {"task_id": "T1", "vocal_separation_info": {"vocal_url": "https://x/y"}},
    },
    {"code": "500", "msg": None, "data": {"taskId": "T1", "vocal_removal_info": None}},
    {"code": 451, "task_id": "T1", "data": []},
]
DOCUMENTED = {200, 400, 401, 404, 405, 408, 413, 415, 422}

loop = asyncio.new_event_loop()
delivered: list[object] = []


def record_delivery(delivery):
    delivered.append(delivery)
    return resume.Effect.REMEMBERED, False


resume.deliver = record_delivery


def check_one_request(data: bytes) -> None:
    """Build a request from the bytes, send it, and check the answer."""
    if data[:1] == GENUINE:
        method, token, kind, body = "POST", VALID, KINDS[0], data[1:]
    else:
        source = atheris.FuzzedDataProvider(data)
        token = VALID if source.ConsumeBool() else _make_invalid_token(source)
        method = source.PickValueInList(["POST", "POST", "GET", "PUT", "\x00"])
        kind = source.PickValueInList(KINDS) if source.ConsumeBool() else source.ConsumeBytes(40)
        body = source.ConsumeBytes(atheris.ALL_REMAINING)
    half = len(body) // 2
    delivered.clear()
    headers = [(b"content-type", kind)]
    status = loop.run_until_complete(_send(method, token, headers, [body[:half], body[half:]]))
    assert status in DOCUMENTED, status
    assert not delivered or (token == VALID and method == "POST" and status == 200), token


def _make_invalid_token(source) -> str:
    """Return random text, or the valid token with a few characters changed."""
    if source.ConsumeBool():
        return source.ConsumeUnicodeNoSurrogates(200)
    at = source.ConsumeIntInRange(0, len(VALID))
    return VALID[:at] + source.ConsumeUnicodeNoSurrogates(4) + VALID[at + source.ConsumeIntInRange(0, 4) :]


async def _send(method: str, token: str, headers: list[tuple[bytes, bytes]], chunks: list[bytes]) -> int:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict] = []

    async def receive() -> dict:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    path = f"/callback/{token}"
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.1", 1),
    }
    await receiver.app(scope, receive, send)
    return sent[0]["status"]


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["-max_total_time=60"]
    with tempfile.TemporaryDirectory(prefix="vocalsep-fuzz-") as corpus:
        for number, seed in enumerate(SEEDS):
            Path(corpus, str(number)).write_bytes(GENUINE + json.dumps(seed).encode())
        atheris.Setup([sys.argv[0], "-max_len=4096", *arguments, corpus], check_one_request)
        atheris.Fuzz()
