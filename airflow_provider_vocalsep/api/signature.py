"""
kie's signature of callbacks (docs.kie.ai, "common-api/webhook-verification").

It covers the task id and the time, not the body: a valid one proves that kie spoke about that task at that time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

TIMESTAMP_HEADER = "X-Webhook-Timestamp"
SIGNATURE_HEADER = "X-Webhook-Signature"

#: Seconds that the vendor's clock may be off. Its page names none; clients in the field use five minutes.
TOLERANCE = 300.0


def sign(key: str, task_id: str, timestamp: int | str) -> str:
    """
    Compute a signature.

    :param key: The account's ``webhookHmacKey``.
    :param task_id: ``data.task_id`` of the delivery.
    :param timestamp: Unix seconds, as in the header.
    :return: Base64 of HMAC-SHA256 over ``task_id.timestamp``.
    """
    digest = hmac.new(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def verify(
    key: str, task_id: str, timestamp: str, signature: str, *, now: float, tolerance: float = TOLERANCE
) -> bool:
    """
    Check a signature in constant time.

    :param timestamp: The timestamp header.
    :param signature: The signature header.
    :param now: The time in epoch seconds.
    :param tolerance: Seconds that the timestamp may be away from it.
    """
    expected = sign(key, task_id, timestamp)
    fresh = timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp[:15])) <= tolerance
    return hmac.compare_digest(expected.encode(), signature.encode()) and fresh
