"""HTTP sessions that reuse a connection only while the vendor cannot be closing it under a submit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3 import ProxyManager

#: Seconds for which an idle connection may be reused. Servers close idle connections after 5 s (uvicorn,
#: Node.js) to minutes (nginx, load balancers). A request sent at that moment is lost: a submit that may have
#: been paid.
MAX_IDLE = 2.0


class IdleConnectionGuard(HTTPConnection):
    """A connection that counts as dropped once it was idle for too long; the pool then opens a new one."""

    _answered_at = 0.0

    def getresponse(self) -> Any:
        """Return the response and remember when it arrived."""
        response = super().getresponse()
        self._answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Return whether the connection may be reused."""
        return super().is_connected and time.monotonic() - self._answered_at < MAX_IDLE


class _SecureIdleConnectionGuard(IdleConnectionGuard, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = IdleConnectionGuard


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureIdleConnectionGuard


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the request's own header; without an ``auth``, requests replaces it from ``~/.netrc``."""
    return request


def new_session() -> requests.Session:
    """Return a session for the vendor's API."""
    session = requests.Session()
    session.auth = _keep_headers
    session.mount("https://", _Adapter())
    session.mount("http://", _Adapter())
    return session
