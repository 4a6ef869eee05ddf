"""The verification of a delivery: token, body and the vendor's signature. No clock, no database, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api import signature
from airflow_provider_vocalsep.api.callbacks import parse_callback
from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.callbacks.token import CallbackClaims, TokenError, parse_unverified, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_vocalsep.api.models import Callback
    from airflow_provider_vocalsep.client.settings import AccountSettings

#: Bytes of a body at most. Documented bodies, with twelve stems, have under 4 kB.
MAX_BODY = 64 * 1024


class RejectedError(Exception):
    """
    A delivery is refused.

    :param status: HTTP status of the answer.
    :param reason: For the server's log; the answer does not contain it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Delivery:
    """
    A verified callback.

    :param claims: The task instance and the attempt that it is for.
    :param callback: Only a hint: the task reads the vendor's record before it acts on it.
    """

    claims: CallbackClaims
    callback: Callback


def verify_token(
    token: str, find_account: Callable[[str], AccountSettings | None], *, now: float
) -> tuple[CallbackClaims, AccountSettings]:
    """
    Verify the token of a delivery; return its claims and the account that signed it.

    :param token: The last segment of the path.
    :param find_account: Returns the account of a connection, ``None`` if no such account receives callbacks.
    :param now: Epoch seconds.
    :raises RejectedError: 401.
    """
    try:
        account = find_account(parse_unverified(token).conn_id)
        if account is None:
            raise TokenError("no such connection, or one without callback_secret")
        return verify(token, account.callback_secrets, now=now), account
    except TokenError as e:
        raise RejectedError(401, str(e)) from e


def verify_body(
    body: bytes, headers: Mapping[str, str], claims: CallbackClaims, account: AccountSettings, *, now: float
) -> Delivery:
    """
    Verify the body of a delivery, and the vendor's signature if the account has its key.

    :param headers: With case-insensitive names.
    :param now: Epoch seconds.
    :raises RejectedError: 422 for a body that is no callback, 401 for a missing or wrong signature.
    """
    try:
        callback = parse_callback(body)
    except UnreadableAnswerError as e:
        raise RejectedError(422, str(e)) from e
    key = account.webhook_hmac_key
    if key is not None and not signature.verify(
        key,
        callback.task_id,
        headers.get(signature.TIMESTAMP_HEADER, ""),
        headers.get(signature.SIGNATURE_HEADER, ""),
        now=now,
    ):
        raise RejectedError(401, "the vendor's signature is missing, wrong or too old")
    return Delivery(claims, callback)
