"""Connections that are kept open, but not for so long that the vendor may be closing one just as a submit is sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3 import ProxyManager

#: Seconds for which a connection may rest and be used again. Servers close resting ones after 5 s (uvicorn, Node.js) to minutes
#: (nginx, load balancers). What is sent at that very moment is lost without a word: a submit that may have been paid.
MAX_REST = 2.0


class IdleConnectionGuard(HTTPConnection):
    """Counts as dropped once it has rested for too long; the pool then connects anew."""

    _answered_at = 0.0

    def getresponse(self) -> Any:
        """Note when the host last answered."""
        response = super().getresponse()
        self._answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Return whether the connection may be used again."""
        return super().is_connected and time.monotonic() - self._answered_at < MAX_REST


class _RestedSecurely(IdleConnectionGuard, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = IdleConnectionGuard


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _RestedSecurely


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def new_session() -> requests.Session:
    """Return a session for the vendor's API."""
    session = requests.Session()
    session.mount("https://", _Adapter())
    session.mount("http://", _Adapter())
    return session
