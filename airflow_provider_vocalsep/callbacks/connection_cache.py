"""The accounts behind tokens, cached for seconds: a burst of callbacks reads the connection once."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook

if TYPE_CHECKING:
    from airflow_provider_vocalsep.client.settings import AccountSettings

log = logging.getLogger(__name__)

#: Seconds for which an account is cached: for so long a secret that was removed is still accepted.
MAX_AGE = 30.0

#: Seconds after which the connection is read again for a token that does not verify, as its secret may be
#: new. Not earlier, since anybody can send any number of such tokens.
MAX_AGE_FOR_UNVERIFIED = 1.0

#: Connection ids that are cached, including ids that a stranger made up. Airflow has no longer ones.
_MAX_IDS = 256
_MAX_ID_LENGTH = 250

_lock = threading.Lock()
_cache: dict[str, tuple[float, AccountSettings | None]] = {}


class NotCachedError(LookupError):
    """The account of a connection is not in the cache, or too old."""


def cached_account(conn_id: str) -> AccountSettings | None:
    """
    Return the account of a connection without I/O.

    :param conn_id: Its id, from a token that is not verified yet.
    :return: ``None`` if no such account receives callbacks.
    :raises NotCachedError: use :func:`read_account`, which takes a while.
    """
    with _lock:
        found = _cache.get(conn_id)
    if found and time.monotonic() - found[0] < MAX_AGE:
        return found[1]
    raise NotCachedError(conn_id)


def read_account(conn_id: str, *, max_age: float = MAX_AGE) -> AccountSettings | None:
    """
    Return the account of a connection, read from Airflow unless the cache has it.

    :param conn_id: Its id, from a token that is not verified yet.
    :param max_age: Seconds for which a cached account is good enough.
    :return: ``None`` if no such account receives callbacks.
    """
    with _lock:
        found = _cache.get(conn_id)
        if found and time.monotonic() - found[0] < max_age:
            return found[1]
        if found:  # one thread reads it again, the others use the old one meanwhile
            _cache[conn_id] = (time.monotonic(), found[1])
    account = _read_connection(conn_id)
    with _lock:
        if len(_cache) >= _MAX_IDS:
            _cache.clear()
        _cache[conn_id] = (time.monotonic(), account)
    return account


def _read_connection(conn_id: str) -> AccountSettings | None:
    if not conn_id or len(conn_id) > _MAX_ID_LENGTH or not conn_id.isprintable():
        return None
    try:
        account = VocalSeparationHook(conn_id).settings
    except Exception as e:
        log.info("Refusing callbacks for connection %r: %s", conn_id, type(e).__name__)
        return None
    return account if account.callback_secrets else None
