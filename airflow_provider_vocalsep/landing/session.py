"""HTTP sessions whose every connection is checked by the guard before it is made."""

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
    Put a guard in front of everything that a session connects to.

    :param guard: Decides about links and addresses.
    :param session: Session to use; a new one by default. Its adapters are replaced.
    :param connections: Idle connections that are kept per host.
    """
    session = session or requests.Session()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
    # A download host gets no credentials from .netrc, and leaves no cookies for the next one.
    session.auth = _no_credentials
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = GuardedAdapter(guard, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class GuardedAdapter(HTTPAdapter):
    """
    Transport that connects only where its guard allows, redirects included.

    Behind a proxy the proxy looks names up, so the address cannot be checked here: then only hosts that are listed
    are allowed.

    :param guard: Decides about links and addresses.
    """

    def __init__(self, guard: DownloadGuard, **kwargs: Any) -> None:
        self.guard = guard
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use connections that check the address they connect to."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools_of(self.guard)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Check the link, then send."""
        url = request.url or ""
        self.guard.check_url(url)
        if select_proxy(url, kwargs.get("proxies")) and not self.guard.allowed_hosts:
            raise DownloadRefusedError(
                "Refused to download through a proxy from any host whatever, because the proxy hides which address "
                "it reaches. List the vendor's download hosts in download_hosts of the vocalsep connection, or put "
                "them into no_proxy."
            )
        return super().send(request, *args, **kwargs)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Pinned(HTTPConnection):
    """Connects to the very addresses that the guard has checked, so that none can be swapped in between."""

    guard: DownloadGuard

    def _new_conn(self) -> socket.socket:
        port = self.port or self.default_port
        problem: Exception = NewConnectionError(self, f"{self.host} has no address")
        try:
            addresses = self.guard.resolve(self.host, port)
        except OSError as e:
            raise NewConnectionError(self, f"{self.host} cannot be looked up: {e}") from e
        for address in addresses:
            try:
                connection = create_connection(
                    (address, port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except TimeoutError as e:
                problem = ConnectTimeoutError(self, f"{self.host} ({address}) did not answer: {e}")
            except OSError as e:
                problem = NewConnectionError(self, f"{self.host} ({address}) cannot be reached: {e}")
            else:
                sys.audit("http.client.connect", self, self.host, self.port)
                return connection
        raise problem


def _pools_of(guard: DownloadGuard) -> dict[str, type[HTTPConnectionPool]]:
    plain = type("GuardedHTTPConnection", (_Pinned,), {"guard": guard})
    secure = type("GuardedHTTPSConnection", (_Pinned, HTTPSConnection), {"guard": guard})
    return {
        "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
