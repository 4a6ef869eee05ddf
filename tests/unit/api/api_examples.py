"""
Answers and callbacks as in the vendors' documentation and in recordings; only the files' ids are ours.

Key order, spelling, nulls and values are the vendors'. A test makes a deep copy before it changes one.
"""

from __future__ import annotations

import json
from typing import Any

HOST = "https://file.aiquickdraw.com/s"
VOCALS_ID = "d92a13bf-c6f4-4ade-bb47-f69738435528"
MUSIC_ID = "376c687e-d439-42c1-b1e4-bcb43b095ec2"
TWO_STEMS_ID = "3e63b4cc88d52611159371f6af5571e7"
TWELVE_STEMS_ID = "e649edb7abfd759285bd41a47a634b10"
FAILED_ID = "5e72d367bdfbe44785e28d72cb1697c7"
CALLBACK_URL = "https://api.example.com/callback"

#: Record key, callback key, `stem_type_group_name`, suffix of the file name, name of the stem.
TWELVE = [
    ("vocalUrl", "vocal_url", "Vocals", "Vocals", "vocals"),
    ("backingVocalsUrl", "backing_vocals_url", "Backing Vocals", "Backing_Vocals", "backing_vocals"),
    ("drumsUrl", "drums_url", "Drums", "Drums", "drums"),
    ("bassUrl", "bass_url", "Bass", "Bass", "bass"),
    ("guitarUrl", "guitar_url", "Guitar", "Guitar", "guitar"),
    ("keyboardUrl", "keyboard_url", "Keyboard", "Keyboard", "keyboard"),
    ("percussionUrl", "percussion_url", "Percussion", "Percussion", "percussion"),
    ("stringsUrl", "strings_url", "Strings", "Strings", "strings"),
    ("synthUrl", "synth_url", "Synth", "Synth", "synth"),
    ("fxUrl", "fx_url", "FX", "FX", "fx"),
    ("brassUrl", "brass_url", "Brass", "Brass", "brass"),
    ("woodwindsUrl", "woodwinds_url", "Woodwinds", "Woodwinds", "woodwinds"),
]
ALL_RECORD_KEYS = ["instrumentalUrl", "pianoUrl", *(row[0] for row in TWELVE)]


def stem_id(number: int) -> str:
    return f"{number:08d}-c6f4-4ade-bb47-f69738435528"


def stem_url(number: int, suffix: str) -> str:
    return f"{HOST}/{stem_id(number)}_{suffix}.mp3"


def detail(number: int, group: str, suffix: str, duration: float) -> dict[str, Any]:
    return {
        "duration": duration,
        "audio_url": stem_url(number, suffix),
        "stem_type_group_name": group,
        "id": stem_id(number),
    }


def envelope(data: Any, code: Any = 200, msg: str = "success") -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def body(answer: Any) -> bytes:
    return json.dumps(answer).encode()


RECORD_TWO_STEMS: dict[str, Any] = {
    "taskId": TWO_STEMS_ID,
    "musicId": MUSIC_ID,
    "callbackUrl": CALLBACK_URL,
    "musicIndex": 0,
    "completeTime": 1753782937000,
    "response": {
        "id": None,
        "originUrl": None,
        "originData": [
            detail(0, "Vocals", "Vocals", 245.6),
            detail(1, "Instrumental", "Instrumental", 245.6),
        ],
        "instrumentalUrl": stem_url(1, "Instrumental"),
        "vocalUrl": stem_url(0, "Vocals"),
        **{row[0]: None for row in TWELVE if row[0] != "vocalUrl"},
        "pianoUrl": None,
    },
    "successFlag": "SUCCESS",
    "createTime": 1753782854000,
    "errorCode": None,
    "errorMessage": None,
}

RECORD_TWELVE_STEMS: dict[str, Any] = {
    "taskId": TWELVE_STEMS_ID,
    "musicId": MUSIC_ID,
    "callbackUrl": CALLBACK_URL,
    "musicIndex": 0,
    "completeTime": 1753782459000,
    "response": {
        "id": None,
        "originUrl": None,
        # The vendor's page lists four of the twelve.
        "originData": [
            detail(5, "Keyboard", "Keyboard", 312.4),
            detail(6, "Percussion", "Percussion", 312.4),
            detail(7, "Strings", "Strings", 312.4),
            detail(8, "Synth", "Synth", 312.4),
        ],
        "instrumentalUrl": None,
        **{row[0]: stem_url(number, row[3]) for number, row in enumerate(TWELVE)},
        "pianoUrl": None,
    },
    "successFlag": "SUCCESS",
    "createTime": 1753782327000,
    "errorCode": None,
    "errorMessage": None,
}

RECORD_ADVANCED: dict[str, Any] = {
    **RECORD_TWO_STEMS,
    "response": {
        "id": None,
        "originUrl": None,
        "originData": [
            {
                "extract": detail(0, "Lead Vocal", "Lead Vocal", 200.1),
                "remove": detail(1, "Lead Vocal", "No Lead Vocal", 200.1),
            }
        ],
    },
}

RECORD_PENDING: dict[str, Any] = {
    **RECORD_TWO_STEMS,
    "completeTime": None,
    "response": None,
    "successFlag": "PENDING",
}

RECORD_FAILED: dict[str, Any] = {
    **RECORD_PENDING,
    "taskId": FAILED_ID,
    "successFlag": "GENERATE_AUDIO_FAILED",
    "errorCode": 500,
    "errorMessage": "Vocal separation failed",
}

CALLBACK_TWO_STEMS: dict[str, Any] = {
    "code": 200,
    "data": {
        "task_id": TWO_STEMS_ID,
        "vocal_removal_info": {
            "instrumental_url": stem_url(1, "Instrumental"),
            "origin_url": "",
            "vocal_url": stem_url(0, "Vocals"),
        },
    },
    "msg": "vocal Removal generated successfully.",
}

CALLBACK_TWELVE_STEMS: dict[str, Any] = {
    "code": 200,
    "data": {
        "task_id": TWELVE_STEMS_ID,
        "vocal_removal_info": {
            "origin_url": "",
            **{
                row[1]: stem_url(number, row[3])
                for number, row in sorted(enumerate(TWELVE), key=lambda r: r[1][1])
            },
        },
    },
    "msg": "vocal Removal generated successfully.",
}

CALLBACK_KIE_TWO_STEMS: dict[str, Any] = {
    "code": 200,
    "msg": "vocal separation generated successfully.",
    "data": {
        "task_id": TWO_STEMS_ID,
        "vocal_separation_info": CALLBACK_TWO_STEMS["data"]["vocal_removal_info"],
    },
}

CALLBACK_ADVANCED: dict[str, Any] = {
    "code": 200,
    "msg": "vocal Removal generated successfully.",
    "data": {
        "task_id": TWO_STEMS_ID,
        "vocal_removal_info": {"origin_data": RECORD_ADVANCED["response"]["originData"]},
    },
}

CALLBACK_FAILED: dict[str, Any] = {
    "code": 400,
    "msg": "Vocal separation failed",
    "data": {"task_id": FAILED_ID, "vocal_removal_info": None},
}

CALLBACK_KIE_FAILED: dict[str, Any] = {
    "code": 500,
    "msg": "Instrument separation failed",
    "data": {"task_id": FAILED_ID, "vocal_separation_info": None},
}

#: Recorded at kie, all with HTTP 200. The last one has no `data`.
RECORDED_UNKNOWN_SOURCE = b'{"code":422,"msg":"Record does not exist","data":null}'
RECORDED_NO_CALLBACK = b'{"code":422,"msg":"Please enter callBackUrl.","data":null}'
RECORDED_SUBMITTED = b'{"code":200,"msg":"success","data":{"taskId":"3e63b4cc88d52611159371f6af5571e7"}}'
RECORDED_UNKNOWN_TASK = b'{"code":200,"msg":"success","data":null}'
RECORDED_SERVER_ERROR = b'{"code":500,"msg":"The original Suno task does not exist.","data":null}'
RECORDED_TOO_FAST = (
    b'{"code":430,"msg":"Your call frequency is too high. Please try again later.","data":null}'
)
RECORDED_UNAUTHORIZED = (
    '{"code":401,"msg":"Unauthorized – Authentication failed. Please check that your Authorization and '
    'Content-Type headers are correctly set."}'
).encode()

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
