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
    digest = hmac.new(_bytes(key), _bytes(f"{task_id}.{timestamp}"), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def verify(
    key: str, task_id: str, timestamp: str, signature: str, *, now: float, tolerance: float = TOLERANCE
) -> bool:
    """
    Check a signature in constant time.

    :param key: The account's ``webhookHmacKey``; an empty one verifies nothing.
    :param task_id: ``data.task_id`` of the delivery.
    :param timestamp: The timestamp header.
    :param signature: The signature header.
    :param now: The time in epoch seconds.
    :param tolerance: Seconds that the timestamp may be away from it.
    """
    genuine = hmac.compare_digest(_bytes(sign(key, task_id, timestamp)), _bytes(signature))
    fresh = timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp[:15])) <= tolerance
    return bool(key) and genuine and fresh


def _bytes(text: str) -> bytes:
    # What a stranger sends may hold half a surrogate pair; it must be refused, not break the receiver.
    return text.encode("utf-8", "surrogatepass")
