"""
The vendor's side of the contract: bodies, codes and spellings of either dialect.

Written from the vendors' pages and recorded answers, independently of the client's parsing on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from airflow_provider_vocalsep.api.vocabulary import STEM_SPELLINGS, SeparationType, Stem
from airflow_provider_vocalsep.sandbox.options import PRICES

#: Stems in a record and in a callback of ``split_stem``, in the order of the vendors' examples.
_RECORD_STEMS = (Stem.INSTRUMENTAL, *(s for s in STEM_SPELLINGS if s not in (Stem.INSTRUMENTAL, Stem.PIANO)))
_SPLIT_STEMS = tuple(sorted(_RECORD_STEMS[1:], key=lambda stem: stem.value))


@dataclass(frozen=True)
class Wording:
    """
    The paths, keys, codes and messages in which the vendors differ.

    :param credit_path: Path of the balance.
    :param container: Key of the stems in a callback.
    :param success_message: Message of a successful callback.
    :param success_keys: Order of the keys of a successful callback.
    :param failure_messages: Message of a failed task by separation type.
    :param failure_code: Code of a failed task's callback.
    :param too_fast: Code and message for a submit over the rate.
    :param no_credits: Code and message for a submit without credits.
    :param has_piano: Whether records have ``pianoUrl``.
    """

    credit_path: str
    container: str
    success_message: str
    success_keys: tuple[str, str, str]
    failure_messages: dict[str, str]
    failure_code: int
    too_fast: tuple[int, str]
    no_credits: tuple[int, str]
    has_piano: bool


_VOCAL_FAILED = "Vocal separation failed"
_INSTRUMENT_FAILED = "Instrument separation failed"

WORDINGS = {
    "sunoapi": Wording(
        credit_path="/api/v1/generate/credit",
        container="vocal_removal_info",
        success_message="vocal Removal generated successfully.",
        success_keys=("code", "data", "msg"),
        failure_messages=dict.fromkeys(PRICES, _VOCAL_FAILED),
        failure_code=400,
        too_fast=(430, "Your call frequency is too high. Please try again later."),
        no_credits=(429, "Your credits are insufficient, please top up to continue."),
        has_piano=False,
    ),
    "kie": Wording(
        credit_path="/api/v1/chat/credit",
        container="vocal_separation_info",
        success_message="vocal separation generated successfully.",
        success_keys=("code", "msg", "data"),
        failure_messages={**dict.fromkeys(PRICES, _INSTRUMENT_FAILED), "separate_vocal": _VOCAL_FAILED},
        failure_code=500,
        too_fast=(429, "Too many requests. Please try again later."),
        no_credits=(
            402,
            "Credits insufficient: your balance isn't enough to run this request. Please top up to continue.",
        ),
        has_piano=True,
    ),
}


def success(data: Any) -> dict[str, Any]:
    """Return the envelope of a successful answer."""
    return {"code": 200, "msg": "success", "data": data}


def error(code: int, message: str) -> dict[str, Any]:
    """Return the envelope of a refusal. Recorded 401 answers have no ``data``; in all others it is null."""
    return {"code": code, "msg": message} if code == 401 else {"code": code, "msg": message, "data": None}


UNAUTHORIZED = error(
    401,
    "Unauthorized – Authentication failed. Please check that your Authorization and Content-Type headers are "
    "correctly set.",
)


def stem_file(stem_id: str, group: str) -> str:
    """Return the file name of a stem: ``<uuid>_Backing_Vocals.mp3``. Names of advanced stems keep spaces."""
    return f"{stem_id}_{group}.mp3"


def group_of(stem: str) -> str:
    """Return the vendor's name of a stem, as in its file name."""
    return STEM_SPELLINGS[Stem(stem)].group.replace(" ", "_")


def build_record(task: dict[str, Any], stems: list[dict[str, Any]], wording: Wording) -> dict[str, Any]:
    """
    Return ``data`` of record-info, with the keys in the order of the vendor's examples.

    :param task: Row of the task in the books.
    :param stems: Stems with ``name``, ``stem_id``, ``url`` and ``duration``.
    """
    done = task["status"] == "SUCCESS" or (task["status"] == "CALLBACK_EXCEPTION" and stems)
    return {
        "taskId": task["vendor_task_id"],
        "musicId": task["audio_id"],
        "callbackUrl": task["callback_url"],
        "musicIndex": 0 if task["audio_id"] else None,
        "completeTime": task["completed_ms"],
        "response": _build_response(task, stems, wording) if done else None,
        "successFlag": task["status"],
        "createTime": task["created_ms"],
        "errorCode": task["error_code"],
        "errorMessage": task["error_message"],
    }


def _build_response(task: dict[str, Any], stems: list[dict[str, Any]], wording: Wording) -> dict[str, Any]:
    if task["type"] == SeparationType.SPLIT_STEM_ADVANCED.value:
        return {"id": None, "originUrl": None, "originData": _build_pairs(task, stems)}
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
    for stem in (*_RECORD_STEMS, *((Stem.PIANO,) if wording.has_piano else ())):
        response[STEM_SPELLINGS[stem].record] = urls.get(stem.value)
    return response


def _build_pairs(task: dict[str, Any], stems: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def build_callback(task: dict[str, Any], stems: list[dict[str, Any]], wording: Wording) -> dict[str, Any]:
    """Return the body of a callback, with the keys in the order of the vendor's examples."""
    task_id, container = task["vendor_task_id"], wording.container
    if task["status"] not in ("SUCCESS", "CALLBACK_EXCEPTION"):
        code = task["error_code"] or wording.failure_code
        message = task["error_message"] or wording.failure_messages[task["type"]]
        return {"code": code, "msg": message, "data": {"task_id": task_id, container: None}}
    urls = {stem["name"]: stem["url"] for stem in stems}

    def addresses(*names: Stem) -> dict[str, str]:
        return {STEM_SPELLINGS[name].callback: urls.get(name.value) or "" for name in names}

    info: dict[str, Any]
    if task["type"] == SeparationType.SPLIT_STEM_ADVANCED.value:
        container, info = "vocal_removal_info", {"origin_data": _build_pairs(task, stems)}
    elif task["type"] == SeparationType.SEPARATE_VOCAL.value:
        info = {**addresses(Stem.INSTRUMENTAL), "origin_url": "", **addresses(Stem.VOCALS)}
    else:
        info = {"origin_url": "", **addresses(*_SPLIT_STEMS)}
    body = {"code": 200, "msg": wording.success_message, "data": {"task_id": task_id, container: info}}
    return {key: body[key] for key in wording.success_keys}


def signature_headers(key: str, task_id: str, timestamp: int) -> dict[str, str]:
    """Return kie's signature headers: Base64 of HMAC-SHA256 over ``task_id.timestamp``."""
    digest = hmac.new(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return {"X-Webhook-Timestamp": str(timestamp), "X-Webhook-Signature": base64.b64encode(digest).decode()}
