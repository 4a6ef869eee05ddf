"""Trying the vendor's way to the receiver, from outside, step by step."""

from __future__ import annotations

import json
import socket
import ssl
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from airflow_provider_vocalsep.api import signature
from airflow_provider_vocalsep.callbacks.token import CALLBACK_PATH, CallbackClaims, mint
from airflow_provider_vocalsep.client.settings import USER_AGENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_vocalsep.client.settings import AccountSettings

#: Seconds that a vendor waits for the answer to a callback (both vendors' callback pages).
PATIENCE = 15.0


class BrokenError(Exception):
    """A step of the way that does not work; the message says what to do about it."""


def check_way(conn_id: str, account: AccountSettings) -> Iterator[str]:
    """
    Go the way of a callback.

    :param conn_id: The connection.
    :param account: What it says.
    :return: One line for each step that works, as it is done.
    :raises BrokenError: at the first step that does not.
    """
    if account.callback_base_url is None or not account.callback_secrets:
        raise BrokenError(
            f"Connection {conn_id!r} does not switch callbacks on: set callback_base_url and callback_secret."
        )
    base_url = account.callback_base_url
    yield _name(base_url)
    yield _reachable(base_url)
    yield _path(base_url)
    yield _accepted(base_url, conn_id, account)


def _name(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    try:
        addresses = sorted({info[4][0] for info in socket.getaddrinfo(host, None)})
    except OSError as e:
        raise BrokenError(f"Name: {host} is not known ({e}). Correct callback_base_url, or the DNS.") from e
    return f"Name: {host} is {', '.join(map(str, addresses))}"


def _reachable(base_url: str) -> str:
    parts = urlsplit(base_url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as plain:
            if secure:
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
                    return f"TLS: {wrapped.version()} with a certificate that counts for {host}"
    except ssl.SSLError as e:
        raise BrokenError(f"TLS: {e}. The vendor will not talk to it either; mend the certificate.") from e
    except OSError as e:
        raise BrokenError(
            f"Connection: nothing answers at {host}:{port} ({e}). Is the reverse proxy or tunnel up, and may the "
            "outside reach it?"
        ) from e
    return f"Connection: {host}:{port} answers, without TLS; vendors advise https"


def _path(base_url: str) -> str:
    answer = _post(f"{base_url}{CALLBACK_PATH}not-a-token", b"{}", {})
    if answer.status_code == 401 and _status(answer) == "refused":
        return f"Path: {CALLBACK_PATH} is the receiver, and refuses what has no token"
    raise BrokenError(
        f"Path: {base_url}{CALLBACK_PATH} answers HTTP {answer.status_code} to a callback without a token instead of 401. "
        "Either a proxy does not pass the path on (only this one has to be public, with POST), or callback_base_url lacks "
        "a path prefix, or the provider is not installed in the API server (`airflow plugins` lists 'vocalsep')."
    )


def _accepted(base_url: str, conn_id: str, account: AccountSettings) -> str:
    now = int(time.time())
    # A task instance that nobody has: the receiver looks for it in its database and changes nothing.
    claims = CallbackClaims(conn_id, "vocalsep-callback-check", "", "", -1, uuid.uuid4().hex, now + 60)
    vendor_task_id = uuid.uuid4().hex
    body = json.dumps({"code": 200, "msg": "callback-check", "data": {"task_id": vendor_task_id}}).encode()
    headers = {}
    if account.webhook_hmac_key:
        headers[signature.TIMESTAMP_HEADER] = str(now)
        headers[signature.SIGNATURE_HEADER] = signature.sign(account.webhook_hmac_key, vendor_task_id, now)
    url = f"{base_url}{CALLBACK_PATH}{mint(claims, account.callback_secrets[0])}"
    started = time.perf_counter()
    answer = _post(url, body, headers)
    seconds = time.perf_counter() - started
    if answer.status_code == 200 and _status(answer) == "received":
        return f"Token, signature, database: a test delivery was taken after {seconds * 1000:.0f} ms"
    if answer.status_code == 401:
        raise BrokenError(
            f"Token or signature: the API server refuses what connection {conn_id!r} signs here. Its own connection of that "
            "name has another callback_secret or webhook_hmac_secret (it keeps an old one for up to 30 s), or the clocks "
            "differ by minutes. Its log names the reason."
        )
    if answer.status_code == 503:
        raise BrokenError(
            "Database: the receiver answers, but Airflow's database is away. See the API server's log."
        )
    raise BrokenError(
        f"Delivery: HTTP {answer.status_code} instead of 200. Something between here and the API server changed the request; "
        "the path, the body and the headers Content-Type and X-Webhook-* have to arrive as they are."
    )


def _post(url: str, body: bytes, headers: dict[str, str]) -> requests.Response:
    sent = {"Content-Type": "application/json", "User-Agent": USER_AGENT, **headers}
    try:
        return requests.post(url, data=body, headers=sent, timeout=PATIENCE, allow_redirects=False)
    except requests.RequestException as e:
        raise BrokenError(
            f"HTTP: no answer within {PATIENCE:g} s, the vendors' limit ({type(e).__name__})."
        ) from e


def _status(answer: requests.Response) -> object:
    try:
        said = answer.json()
    except ValueError:
        return None
    return said.get("status") if isinstance(said, dict) else None
