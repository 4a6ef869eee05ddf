"""
The vendor's side of the contract: bodies, codes and spellings of either dialect.

Written from the vendors' pages and recorded answers, apart from the client's parsing on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from airflow_provider_vocalsep.api.vocabulary import STEM_SPELLINGS, SeparationType, Stem
from airflow_provider_vocalsep.sandbox.options import PRICES

#: The stems of a record and of a callback of ``split_stem``, in the order of the vendors' examples.
_RECORD_STEMS = (Stem.INSTRUMENTAL, *(s for s in STEM_SPELLINGS if s not in (Stem.INSTRUMENTAL, Stem.PIANO)))
_SPLIT_STEMS = tuple(sorted(_RECORD_STEMS[1:], key=lambda stem: stem.value))


@dataclass(frozen=True)
class Voice:
    """
    How one vendor words things.

    :param credit_path: Path of the balance.
    :param container: Key of the stems in a callback.
    :param done: Message of a successful callback.
    :param done_keys: Order of its keys.
    :param failed: Message of a failed task by separation type.
    :param failure_code: Code of a failed task's callback.
    :param too_fast: Code and message of a submit over the rate.
    :param no_credits: Code and message of a submit without credits.
    :param has_piano: Whether records have ``pianoUrl``.
    """

    credit_path: str
    container: str
    done: str
    done_keys: tuple[str, str, str]
    failed: dict[str, str]
    failure_code: int
    too_fast: tuple[int, str]
    no_credits: tuple[int, str]
    has_piano: bool


_VOCAL_FAILED = "Vocal separation failed"
_INSTRUMENT_FAILED = "Instrument separation failed"

VOICES = {
    "sunoapi": Voice(
        "/api/v1/generate/credit",
        "vocal_removal_info",
        "vocal Removal generated successfully.",
        ("code", "data", "msg"),
        dict.fromkeys(PRICES, _VOCAL_FAILED),
        400,
        (430, "Your call frequency is too high. Please try again later."),
        (429, "Your credits are insufficient, please top up to continue."),
        False,
    ),
    "kie": Voice(
        "/api/v1/chat/credit",
        "vocal_separation_info",
        "vocal separation generated successfully.",
        ("code", "msg", "data"),
        {**dict.fromkeys(PRICES, _INSTRUMENT_FAILED), "separate_vocal": _VOCAL_FAILED},
        500,
        (429, "Too many requests. Please try again later."),
        (
            402,
            "Credits insufficient: your balance isn't enough to run this request. Please top up to continue.",
        ),
        True,
    ),
}


def success(data: Any) -> dict[str, Any]:
    """Return the envelope of a call that worked."""
    return {"code": 200, "msg": "success", "data": data}


def error(code: int, message: str) -> dict[str, Any]:
    """Return the envelope of a refusal. Recorded 401 answers have no ``data`` at all, the others a null."""
    return {"code": code, "msg": message} if code == 401 else {"code": code, "msg": message, "data": None}


UNAUTHORIZED = error(
    401,
    "Unauthorized – Authentication failed. Please check that your Authorization and Content-Type headers are "
    "correctly set.",
)


def stem_file(stem_id: str, group: str) -> str:
    """Return the name of a stem's file: ``<uuid>_Backing_Vocals.mp3``; advanced ones keep their space unencoded."""
    return f"{stem_id}_{group}.mp3"


def group_of(stem: str) -> str:
    """Return the name that the vendor gives a stem, as in its file."""
    return STEM_SPELLINGS[Stem(stem)].group.replace(" ", "_")


def record(task: dict[str, Any], stems: list[dict[str, Any]], voice: Voice) -> dict[str, Any]:
    """
    Return ``data`` of record-info, keys in the order of the vendor's examples.

    :param task: The task's row in the books.
    :param stems: Its stems: ``name``, ``stem_id``, ``url``, ``duration``.
    :param voice: The vendor.
    """
    done = task["status"] == "SUCCESS" or (task["status"] == "CALLBACK_EXCEPTION" and stems)
    return {
        "taskId": task["vendor_task_id"],
        "musicId": task["audio_id"],
        "callbackUrl": task["callback_url"],
        "musicIndex": 0 if task["audio_id"] else None,
        "completeTime": task["completed_ms"],
        "response": _response(task, stems, voice) if done else None,
        "successFlag": task["status"],
        "createTime": task["created_ms"],
        "errorCode": task["error_code"],
        "errorMessage": task["error_message"],
    }


def _response(task: dict[str, Any], stems: list[dict[str, Any]], voice: Voice) -> dict[str, Any]:
    if task["type"] == SeparationType.SPLIT_STEM_ADVANCED.value:
        return {"id": None, "originUrl": None, "originData": _pairs(task, stems)}
    urls = {stem["name"]: stem["url"] for stem in stems}
    response: dict[str, Any] = {"id": None, "originUrl": None}
    response["originData"] = [
        {
            "duration": stem["duration"],
            "audio_url": stem["url"],
            "stem_type_group_name": STEM_SPELLINGS[Stem(stem["name"])].group,
            "id": stem["stem_id"],
        }
        for stem in stems
        if stem["url"]
    ]
    for stem in (*_RECORD_STEMS, *((Stem.PIANO,) if voice.has_piano else ())):
        response[STEM_SPELLINGS[stem].record] = urls.get(stem.value)
    return response


def _pairs(task: dict[str, Any], stems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sides = {
        stem["name"]: {
            "duration": stem["duration"],
            "audio_url": stem["url"],
            "stem_type_group_name": task["stem_name"],
            "id": stem["stem_id"],
        }
        for stem in stems
    }
    return [{"extract": sides["extract"], "remove": sides["remove"]}] if sides else []


def callback(task: dict[str, Any], stems: list[dict[str, Any]], voice: Voice) -> dict[str, Any]:
    """Return the body of a callback, keys in the order of the vendor's examples."""
    task_id, container = task["vendor_task_id"], voice.container
    if task["status"] not in ("SUCCESS", "CALLBACK_EXCEPTION"):
        code = task["error_code"] or voice.failure_code
        message = task["error_message"] or voice.failed[task["type"]]
        return {"code": code, "msg": message, "data": {"task_id": task_id, container: None}}
    urls = {stem["name"]: stem["url"] for stem in stems}

    def addresses(*names: Stem) -> dict[str, str]:
        return {STEM_SPELLINGS[name].callback: urls.get(name.value) or "" for name in names}

    info: dict[str, Any]
    if task["type"] == SeparationType.SPLIT_STEM_ADVANCED.value:
        container, info = "vocal_removal_info", {"origin_data": _pairs(task, stems)}
    elif task["type"] == SeparationType.SEPARATE_VOCAL.value:
        info = {**addresses(Stem.INSTRUMENTAL), "origin_url": "", **addresses(Stem.VOCALS)}
    else:
        info = {"origin_url": "", **addresses(*_SPLIT_STEMS)}
    body = {"code": 200, "msg": voice.done, "data": {"task_id": task_id, container: info}}
    return {key: body[key] for key in voice.done_keys}


def signature_headers(key: str, task_id: str, timestamp: int) -> dict[str, str]:
    """Return kie's signature headers: Base64 of HMAC-SHA256 over ``task_id.timestamp``."""
    digest = hmac.new(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return {"X-Webhook-Timestamp": str(timestamp), "X-Webhook-Signature": base64.b64encode(digest).decode()}
