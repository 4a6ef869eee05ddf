"""Whether a delivery is to be believed, without a clock, a database or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api import signature
from airflow_provider_vocalsep.api.callbacks import parse_callback
from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.callbacks.token import CallbackClaims, TokenError, claims_of, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_vocalsep.api.models import Callback
    from airflow_provider_vocalsep.client.settings import AccountSettings

#: Bytes of a body. The documented ones, with twelve stems, have under 4 kB.
MAX_BODY = 64 * 1024


class RejectedError(Exception):
    """
    A delivery that is not taken.

    :param status: HTTP status of the answer.
    :param reason: In words, for our own log; the answer does not say it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Delivery:
    """
    A callback that our own token vouches for.

    :param claims: Whom it reports to.
    :param callback: What it says. A hint: the vendor's record is read before anything is done about it.
    """

    claims: CallbackClaims
    callback: Callback


def check_token(
    token: str, account_of: Callable[[str], AccountSettings | None], *, now: float
) -> tuple[CallbackClaims, AccountSettings]:
    """
    Check the address that a delivery came to.

    :param token: The last part of its path.
    :param account_of: Finds the account of a connection, ``None`` when there is none with a callback secret.
    :param now: The time in epoch seconds.
    :return: What the token says, and the account.
    :raises RejectedError: 401.
    """
    try:
        account = account_of(claims_of(token).conn_id)
        if account is None:
            raise TokenError("no such connection, or one without callback_secret")
        return verify(token, account.callback_secrets, now=now), account
    except TokenError as e:
        raise RejectedError(401, str(e)) from e


def check_body(
    body: bytes, headers: Mapping[str, str], claims: CallbackClaims, account: AccountSettings, *, now: float
) -> Delivery:
    """
    Check what a delivery says.

    :param body: Its body.
    :param headers: Its headers, found whatever their case.
    :param claims: What its token says.
    :param account: The account that the token belongs to.
    :param now: The time in epoch seconds.
    :raises RejectedError: 422 for a body that is no callback, 401 without the vendor's signature where one is due.
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
