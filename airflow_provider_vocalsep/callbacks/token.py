"""
The token in the callback address: says which attempt of which task instance it reports to, signed by us.

Vendors sign too little (kie: task id and time) or nothing (sunoapi), so the address itself is the proof. It holds no
secret, and whoever changes it breaks it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where the plugin is mounted in Airflow's API server, and the only path below it that has to be public.
MOUNT_PATH = "/vocalsep"
CALLBACK_PATH = f"{MOUNT_PATH}/callback/"

#: Seconds for which a token counts. A vendor reports within minutes, and keeps stems for 14 days.
TOKEN_LIFE = 7 * 86400

#: Longer than any token of ours: four names of at most 250 characters each (``airflow.models.base.StringID``), in Base64.
MAX_TOKEN_LENGTH = 4096

_VERSION = 1


class TokenError(Exception):
    """A token that is not to be believed; the message says why, for the server's log."""


@dataclass(frozen=True)
class CallbackClaims:
    """
    What a token says.

    :param conn_id: Connection whose secret signed it.
    :param dag_id: The task instance that is to be resumed, as are ``run_id``, ``task_id`` and ``map_index``.
    :param attempt_id: The attempt in the ledger that the callback belongs to.
    :param expires: Until when it counts, in epoch seconds.
    :param batch: The task instance waits for many; its callbacks are remembered together.
    """

    conn_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    attempt_id: str
    expires: int
    batch: bool = False

    @property
    def memory(self) -> tuple[str, str, str, int, str]:
        """Where its callback is remembered: the task instance, and the attempt unless it is one of a batch."""
        return self.dag_id, self.run_id, self.task_id, self.map_index, "" if self.batch else self.attempt_id


def mint(claims: CallbackClaims, secret: str) -> str:
    """
    Make a token.

    :param claims: What it says.
    :param secret: The first of the connection's callback secrets.
    :return: URL-safe text of a few hundred characters.
    """
    payload = _encode(json.dumps([_VERSION, *astuple(claims)], separators=(",", ":")).encode())
    return f"{payload}.{_encode(_sign(payload, secret))}"


def claims_of(token: str) -> CallbackClaims:
    """
    Read what a token says **without believing it**: to find out whose secret has to verify it.

    :raises TokenError: it is not a token.
    """
    payload, separator, _ = token.partition(".")
    if not separator or len(token) > MAX_TOKEN_LENGTH:
        raise TokenError("not a token")
    try:
        version, *values = json.loads(_decode(payload))
        claims = CallbackClaims(*values)
    except (ValueError, TypeError, RecursionError) as e:
        raise TokenError("unreadable token") from e
    texts = (claims.conn_id, claims.dag_id, claims.run_id, claims.task_id, claims.attempt_id)
    numbers = (claims.map_index, claims.expires)
    if (
        version != _VERSION
        or not all(type(t) is str for t in texts)
        or not all(type(n) is int for n in numbers)
        or type(claims.batch) is not bool
    ):
        raise TokenError("unreadable token")
    return claims


def verify(token: str, secrets: Sequence[str], *, now: float) -> CallbackClaims:
    """
    Check a token in constant time.

    :param token: What came in.
    :param secrets: The connection's secrets; any of them may have signed it, so that they can be rotated.
    :param now: The time in epoch seconds.
    :raises TokenError: it is not ours, was changed, or has expired.
    """
    claims = claims_of(token)
    payload, _, signature = token.partition(".")
    try:
        given = _decode(signature)
    except ValueError as e:
        raise TokenError("unreadable signature") from e
    # All are tried, whichever fits, so that the time says nothing about which one does.
    fits = [hmac.compare_digest(_sign(payload, secret), given) for secret in secrets]
    if not any(fits):
        raise TokenError("wrong signature")
    if _encode(given) != signature:
        raise TokenError("signature in another spelling")
    if now > claims.expires:
        raise TokenError("expired token")
    return claims


def _sign(payload: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), f"vocalsep-callback:{payload}".encode(), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise ValueError("not Base64") from e
