"""The check of the callback route from this machine to the receiver, step by step."""

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
_VENDOR_TIMEOUT = 15.0


class BrokenRouteError(Exception):
    """A step of the callback route fails; the message says how to repair it."""


def check_route(conn_id: str, account: AccountSettings) -> Iterator[str]:
    """
    Check every step that a callback takes.

    :return: One line for each step that works, as it is done.
    :raises BrokenRouteError: at the first step that fails.
    """
    if account.callback_base_url is None or not account.callback_secrets:
        raise BrokenRouteError(
            f"Connection {conn_id!r} does not switch callbacks on: set callback_base_url and callback_secret."
        )
    base_url = account.callback_base_url
    yield _resolve_name(base_url)
    yield _connect(base_url)
    yield _post_without_token(base_url)
    yield _post_delivery(base_url, conn_id, account)


def _resolve_name(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    try:
        addresses = sorted({info[4][0] for info in socket.getaddrinfo(host, None)})
    except OSError as e:
        raise BrokenRouteError(
            f"Name: {host} is not known ({e}). Correct callback_base_url, or the DNS."
        ) from e
    return f"Name: {host} is {', '.join(map(str, addresses))}"


def _connect(base_url: str) -> str:
    parts = urlsplit(base_url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        with socket.create_connection((host, port), timeout=_VENDOR_TIMEOUT) as plain:
            if secure:
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
                    return f"TLS: {wrapped.version()} with a certificate that is valid for {host}"
    except ssl.SSLError as e:
        raise BrokenRouteError(f"TLS: {e}. The vendor refuses this certificate, too; replace it.") from e
    except OSError as e:
        raise BrokenRouteError(
            f"Connection: nothing answers at {host}:{port} ({e}). Check that the reverse proxy or tunnel is "
            "running and that the public may reach it."
        ) from e
    return f"Connection: {host}:{port} answers, without TLS; vendors advise https"


def _post_without_token(base_url: str) -> str:
    answer = _post(f"{base_url}{CALLBACK_PATH}not-a-token", b"{}", {})
    if answer.status_code == 401 and _status_in(answer) == "refused":
        return f"Path: {CALLBACK_PATH} is the receiver, and refuses a callback without a token"
    raise BrokenRouteError(
        f"Path: {base_url}{CALLBACK_PATH} answers HTTP {answer.status_code} to a callback without a token "
        "instead of 401. Either a proxy does not pass the path on (only this one has to be public, with "
        "POST), or callback_base_url lacks a path prefix, or the provider is not installed in the API server "
        "(`airflow plugins` lists 'vocalsep')."
    )


def _post_delivery(base_url: str, conn_id: str, account: AccountSettings) -> str:
    now = int(time.time())
    # No such task instance exists: the receiver queries its database and changes nothing.
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
    if answer.status_code == 200 and _status_in(answer) == "received":
        return f"Token, signature, database: a test delivery was accepted after {seconds * 1000:.0f} ms"
    if answer.status_code == 401:
        raise BrokenRouteError(
            f"Token or signature: the API server refuses a delivery signed by connection {conn_id!r} here. "
            "Its own connection of that name has another callback_secret or webhook_hmac_secret (it caches "
            "the old one for up to 30 s), or the clocks differ by minutes. Its log names the reason."
        )
    if answer.status_code == 503:
        raise BrokenRouteError(
            "Database: the receiver answers, but cannot reach Airflow's database. See the API server's log."
        )
    raise BrokenRouteError(
        f"Delivery: HTTP {answer.status_code} instead of 200. Something between here and the API server "
        "changed the request; path, body and the headers Content-Type and X-Webhook-* must arrive unchanged."
    )


def _post(url: str, body: bytes, headers: dict[str, str]) -> requests.Response:
    sent = {"Content-Type": "application/json", "User-Agent": USER_AGENT, **headers}
    try:
        return requests.post(url, data=body, headers=sent, timeout=_VENDOR_TIMEOUT, allow_redirects=False)
    except requests.RequestException as e:
        raise BrokenRouteError(
            f"HTTP: no answer within {_VENDOR_TIMEOUT:g} s, the vendors' limit ({type(e).__name__})."
        ) from e


def _status_in(answer: requests.Response) -> object:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body.get("status") if isinstance(body, dict) else None
