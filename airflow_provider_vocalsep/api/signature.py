"""
Sign callbacks as kie does, and verify its signatures (docs.kie.ai, "common-api/webhook-verification").

The signature covers the task id and the time, not the body: a valid one proves that kie called back about
that task at that time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

TIMESTAMP_HEADER = "X-Webhook-Timestamp"
SIGNATURE_HEADER = "X-Webhook-Signature"

#: Allowed clock difference in seconds. The vendor's page names none; clients in the field use five minutes.
TOLERANCE = 300.0


def sign(key: str, task_id: str, timestamp: int | str) -> str:
    """
    Sign a delivery.

    :param key: The account's ``webhookHmacKey``.
    :param task_id: ``data.task_id`` of the delivery.
    :param timestamp: Unix seconds, as in the header.
    :return: Base64 of HMAC-SHA256 over ``task_id.timestamp``.
    """
    digest = hmac.new(_encode(key), _encode(f"{task_id}.{timestamp}"), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def verify(
    key: str, task_id: str, timestamp: str, signature: str, *, now: float, tolerance: float = TOLERANCE
) -> bool:
    """
    Return whether a signature is valid; compares in constant time.

    :param key: The account's ``webhookHmacKey``. With an empty key no signature is valid.
    :param task_id: ``data.task_id`` of the delivery.
    :param timestamp: Value of the timestamp header.
    :param signature: Value of the signature header.
    :param now: The time in epoch seconds.
    :param tolerance: Allowed seconds between ``timestamp`` and ``now``.
    """
    genuine = hmac.compare_digest(_encode(sign(key, task_id, timestamp)), _encode(signature))
    fresh = timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp[:15])) <= tolerance
    return bool(key) and genuine and fresh


def _encode(text: str) -> bytes:
    # A stranger may send half a surrogate pair: refuse it without raising.
    return text.encode("utf-8", "surrogatepass")
