"""Rules for download links. A link comes from outside and must not reach the internal network."""

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
    Decides which links may be downloaded.

    To connect, :mod:`.session` calls :meth:`resolve` and uses only the addresses that it returns. So a host
    name that changes its address between check and use (DNS rebinding) has no effect, and every redirect is
    checked because every connection is.

    :param allowed_hosts: Hosts of downloads, ``*.example.com`` for all subdomains; empty for any public host.
    :param allow_private_hosts: Allow private addresses and plain HTTP, for the sandbox. Link-local addresses
        (cloud metadata) stay refused.
    :param max_bytes: Largest stem that is downloaded, in bytes.
    """

    allowed_hosts: tuple[str, ...] = ()
    allow_private_hosts: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES

    def check_url(self, url: str) -> None:
        """
        Check scheme, host and credentials of a link.

        :raises DownloadRefusedError: naming the host (never the query, which may be a signature) and remedy.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as e:
            raise DownloadRefusedError(f"Refused to download: the link is malformed ({e}).") from None
        if not host:
            raise DownloadRefusedError("Refused to download: the link has no host.")
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allow_private_hosts):
            raise DownloadRefusedError(
                f"Refused to download from {host}: its link is {parts.scheme}://, only https:// is accepted. "
                "For the sandbox set allow_private_hosts in the vocalsep connection."
            )
        if parts.username is not None or parts.password is not None:
            raise DownloadRefusedError(f"Refused to download from {host}: its link contains credentials.")
        if not self.allows_host(host):
            raise DownloadRefusedError(
                f"Refused to download from {host}: it is not among the allowed hosts "
                f"({', '.join(self.allowed_hosts)}). If it belongs to the vendor, add it to download_hosts "
                "in the vocalsep connection."
            )

    def allows_host(self, host: str) -> bool:
        """Return whether a host name is listed. Without a list, every one is."""
        name, patterns = _normalize(host), map(_normalize, self.allowed_hosts)
        return not self.allowed_hosts or any(_matches(pattern, name) for pattern in patterns)

    def resolve(self, host: str, port: int) -> list[str]:
        """
        Resolve a host name, and refuse it if any of its addresses is not public.

        :return: The checked addresses.
        :raises DownloadRefusedError: naming host and address.
        :raises OSError: the name cannot be resolved.
        """
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not self.allows_address(address):
                raise DownloadRefusedError(
                    f"Refused to download from {host}: it resolves to {address}, which is not a public "
                    "address. A vendor's link never does; report it to the vendor. (For the sandbox set "
                    "allow_private_hosts in the vocalsep connection.)"
                )
        return addresses

    def allows_address(self, address: str) -> bool:
        """Return whether downloads from an address are allowed."""
        bare = _embedded_ipv4(ipaddress.ip_address(address.partition("%")[0]))
        if bare.is_link_local or bare.is_multicast:
            return False
        site_local = isinstance(bare, ipaddress.IPv6Address) and bare.is_site_local
        return self.allow_private_hosts or (bare.is_global and not site_local)


def _normalize(host: str) -> str:
    return host.strip().rstrip(".").lower()


def _matches(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _embedded_ipv4(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address embeds, or else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
    if inner:
        return inner
    # "::" and "::1" do not embed an IPv4 address.
    if int(address) > 1 and any(address in network for network in _IPV4_CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
