"""Which links may be downloaded. A link comes from outside, so it must not lead into the own network."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_vocalsep.landing.errors import DownloadRefusedError

#: Largest stem that is downloaded, in bytes: 1 GiB, more than an hour of CD-quality WAV.
DEFAULT_MAX_BYTES = 1024**3

#: Networks whose addresses carry an IPv4 address in their last 32 bits (RFC 6052, RFC 4291).
_IPV4_CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class DownloadGuard:
    """
    Decides what may be downloaded.

    The address is not the one that somebody looked up before the request: :mod:`.session` asks :meth:`resolve`
    while it connects, and connects to exactly the addresses that were checked here. So a name that changes its
    address between check and use (DNS rebinding) gains nothing, and every redirect is checked because every
    connection is.

    :param allowed_hosts: Hosts that stems may come from, ``*.example.com`` for all below one; empty for any
        public host.
    :param allow_private_hosts: Stems may come from private addresses and over plain HTTP. For the sandbox.
        Link-local addresses (cloud metadata) stay refused.
    :param max_bytes: Largest stem that is downloaded, in bytes.
    """

    allowed_hosts: tuple[str, ...] = ()
    allow_private_hosts: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES

    def check_url(self, url: str) -> None:
        """
        Refuse a link for what it says.

        :raises DownloadRefusedError: naming the host (never the query, which may sign the link) and the remedy.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as e:
            raise DownloadRefusedError(f"Refused to download: the link cannot be read ({e}).") from None
        if not host:
            raise DownloadRefusedError("Refused to download: the link names no host.")
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allow_private_hosts):
            raise DownloadRefusedError(
                f"Refused to download from {host}: its link is {parts.scheme}://, only https:// is accepted. "
                "For the sandbox set allow_private_hosts in the vocalsep connection."
            )
        if parts.username is not None or parts.password is not None:
            raise DownloadRefusedError(f"Refused to download from {host}: its link carries credentials.")
        if not self.allows_host(host):
            raise DownloadRefusedError(
                f"Refused to download from {host}: it is not among the allowed hosts "
                f"({', '.join(self.allowed_hosts)}). If it is the vendor's, add it to download_hosts in the vocalsep "
                "connection."
            )

    def allows_host(self, host: str) -> bool:
        """Tell whether a host name is on the list, or there is no list."""
        name = _plain(host)
        return not self.allowed_hosts or any(_covers(_plain(pattern), name) for pattern in self.allowed_hosts)

    def resolve(self, host: str, port: int) -> list[str]:
        """
        Look a host up, and refuse it if any of its addresses is not for everyone.

        :return: The addresses that may be connected to.
        :raises DownloadRefusedError: naming host and address.
        :raises OSError: the name cannot be looked up.
        """
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not self.allows_address(address):
                raise DownloadRefusedError(
                    f"Refused to download from {host}: it leads to {address}, which is not a public address. "
                    "A vendor's link never does; report it to the vendor. (For the sandbox set allow_private_hosts in "
                    "the vocalsep connection.)"
                )
        return addresses

    def allows_address(self, address: str) -> bool:
        """Tell whether an address may be connected to."""
        bare = _unwrap(ipaddress.ip_address(address.partition("%")[0]))
        if bare.is_link_local or bare.is_multicast:
            return False
        site_local = isinstance(bare, ipaddress.IPv6Address) and bare.is_site_local
        return self.allow_private_hosts or (bare.is_global and not site_local)


def _plain(host: str) -> str:
    return host.strip().rstrip(".").lower()


def _covers(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _unwrap(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
    if inner:
        return inner
    # "::" and "::1" are addresses of their own.
    if int(address) > 1 and any(address in network for network in _IPV4_CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
