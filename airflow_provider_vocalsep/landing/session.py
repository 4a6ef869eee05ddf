"""HTTP sessions that connect only to addresses that the guard has checked."""

from __future__ import annotations

import http.cookiejar
import sys
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from airflow_provider_vocalsep.client.settings import USER_AGENT
from airflow_provider_vocalsep.landing.errors import DownloadRefusedError

if TYPE_CHECKING:
    import socket

    from airflow_provider_vocalsep.landing.guard import DownloadGuard


def guarded_session(
    guard: DownloadGuard, session: requests.Session | None = None, *, connections: int = 16
) -> requests.Session:
    """
    Return a session whose connections a guard checks.

    :param session: Session to modify; a new one by default. Its adapters are replaced.
    :param connections: Idle connections kept per host.
    """
    session = session or requests.Session()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
    # No credentials from .netrc for a download host, and no cookies from one download for the next.
    session.auth = _no_credentials
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = GuardedAdapter(guard, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class GuardedAdapter(HTTPAdapter):
    """
    Transport that connects only where its guard allows, also after redirects.

    Behind a proxy, the proxy resolves host names and the address cannot be checked here: then only listed
    hosts are allowed.
    """

    def __init__(self, guard: DownloadGuard, **kwargs: Any) -> None:
        self.guard = guard
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use connections that check their address."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self.guard)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Check the link, then send."""
        url = request.url or ""
        self.guard.check_url(url)
        if select_proxy(url, kwargs.get("proxies")) and not self.guard.allowed_hosts:
            raise DownloadRefusedError(
                "Refused to download through a proxy from a host that is not listed, because the proxy hides "
                "the address that it connects to. List the vendor's download hosts in download_hosts of the "
                "vocalsep connection, or put them into no_proxy."
            )
        return super().send(request, *args, **kwargs)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _PinnedConnection(HTTPConnection):
    """Connects to the addresses that the guard has checked: a second lookup could return others."""

    guard: DownloadGuard

    def _new_conn(self) -> socket.socket:
        port = self.port or self.default_port
        error: Exception = NewConnectionError(self, f"{self.host} has no address")
        try:
            addresses = self.guard.resolve(self.host, port)
        except OSError as e:
            raise NewConnectionError(self, f"{self.host} cannot be resolved: {e}") from e
        for address in addresses:
            try:
                connection = create_connection(
                    (address, port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except TimeoutError as e:
                error = ConnectTimeoutError(self, f"{self.host} ({address}) did not answer: {e}")
            except OSError as e:
                error = NewConnectionError(self, f"{self.host} ({address}) cannot be reached: {e}")
            else:
                sys.audit("http.client.connect", self, self.host, self.port)
                return connection
        raise error


def _pool_classes(guard: DownloadGuard) -> dict[str, type[HTTPConnectionPool]]:
    plain = type("GuardedHTTPConnection", (_PinnedConnection,), {"guard": guard})
    secure = type("GuardedHTTPSConnection", (_PinnedConnection, HTTPSConnection), {"guard": guard})
    return {
        "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
