"""
The signed token in the callback address: names the task instance and the attempt that the callback is for.

Vendors sign too little (kie: task id and time) or nothing (sunoapi), so the address itself is the proof. It
holds no secret, and any change breaks the signature.
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

#: Seconds for which a token is valid. A vendor calls back within minutes, and keeps stems for 14 days.
TOKEN_LIFE = 7 * 86400

#: Longer than any valid token: four names of at most 250 characters each (``airflow.models.base.StringID``),
#: in Base64.
MAX_TOKEN_LENGTH = 4096

_VERSION = 1


class TokenError(Exception):
    """A token is not valid; the message says why, for the server's log."""


@dataclass(frozen=True)
class CallbackClaims:
    """
    What a token claims: the task instance to resume, and the attempt.

    :param conn_id: Connection whose secret signed it.
    :param attempt_id: The attempt in the ledger that the callback belongs to.
    :param expires: Until when it is valid, in epoch seconds.
    :param batch: Whether the task instance is a batch, with one inbox for all its attempts.
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
    def inbox(self) -> tuple[str, str, str, int, str]:
        """The inbox that stores the callback: a batch has one, another task instance one for each attempt."""
        return self.dag_id, self.run_id, self.task_id, self.map_index, "" if self.batch else self.attempt_id


def mint(claims: CallbackClaims, secret: str) -> str:
    """
    Sign a token.

    :param secret: The first of the connection's callback secrets.
    :return: URL-safe text of a few hundred characters.
    """
    payload = _encode(json.dumps([_VERSION, *astuple(claims)], separators=(",", ":")).encode())
    return f"{payload}.{_encode(_sign(payload, secret))}"


def parse_unverified(token: str) -> CallbackClaims:
    """
    Parse a token **without verifying it**, to find the connection whose secret verifies it.

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
    Verify a token in constant time.

    :param secrets: The connection's secrets; any of them may have signed it, so that they can be rotated.
    :param now: Epoch seconds.
    :raises TokenError: another secret signed it, it was changed, or it has expired.
    """
    claims = parse_unverified(token)
    payload, _, signature = token.partition(".")
    try:
        given = _decode(signature)
    except ValueError as e:
        raise TokenError("unreadable signature") from e
    # All secrets are tried, so that the time reveals nothing about which one matches.
    matches = [hmac.compare_digest(_sign(payload, secret), given) for secret in secrets]
    if not any(matches):
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
