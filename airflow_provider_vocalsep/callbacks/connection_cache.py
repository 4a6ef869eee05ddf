"""The accounts behind tokens, kept for a little while: a burst of callbacks is one look at the connection."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook

if TYPE_CHECKING:
    from airflow_provider_vocalsep.client.settings import AccountSettings

log = logging.getLogger(__name__)

#: Seconds for which an account is kept: so long until a secret that was taken away counts nowhere.
KEPT_FOR = 30.0

#: Seconds after which it is looked up for a token that does not fit: its secret may have been changed meanwhile. No more often,
#: since strangers can send as many of those as they like.
KEPT_FOR_STRANGERS = 1.0

#: Names of connections that are kept, strangers' inventions too. Airflow has no id longer than 250 characters.
_MAX_NAMES = 256
_MAX_NAME_LENGTH = 250

_lock = threading.Lock()
_kept: dict[str, tuple[float, AccountSettings | None]] = {}


class NotKeptError(LookupError):
    """The account of a connection has to be looked up."""


def kept_account(conn_id: str) -> AccountSettings | None:
    """
    Return the account of a connection that was looked up a moment ago.

    :param conn_id: Its id, out of a token that is yet to be verified.
    :return: The account, ``None`` when there is none that receives callbacks.
    :raises NotKeptError: it has to be looked up, which takes a while.
    """
    with _lock:
        found = _kept.get(conn_id)
    if found and time.monotonic() - found[0] < KEPT_FOR:
        return found[1]
    raise NotKeptError(conn_id)


def callback_account(conn_id: str, *, kept_for: float = KEPT_FOR) -> AccountSettings | None:
    """
    Find the account of a connection.

    :param conn_id: Its id, out of a token that is yet to be verified.
    :param kept_for: Seconds for which what was found before will do.
    :return: The account, ``None`` when there is none that receives callbacks.
    """
    with _lock:
        found = _kept.get(conn_id)
        if found and time.monotonic() - found[0] < kept_for:
            return found[1]
        if found:
            _kept[conn_id] = (time.monotonic(), found[1])  # one looks, the others go by what there is
    account = _resolve(conn_id)
    with _lock:
        if len(_kept) >= _MAX_NAMES:
            _kept.clear()
        _kept[conn_id] = (time.monotonic(), account)
    return account


def _resolve(conn_id: str) -> AccountSettings | None:
    if not conn_id or len(conn_id) > _MAX_NAME_LENGTH or not conn_id.isprintable():
        return None
    try:
        account = VocalSeparationHook(conn_id).settings
    except Exception as e:
        log.info("Callbacks for connection %r are refused: %s", conn_id, type(e).__name__)
        return None
    return account if account.callback_secrets else None
