from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.landing.errors import DownloadRefusedError
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.session import guarded_session

if TYPE_CHECKING:
    from tests.support.stem_host import StemHost


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every host name resolve to these addresses."""

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class TestCheckUrl:
    @pytest.mark.parametrize(
        "url, reason",
        [
            ("http://file.example.com/a.mp3", "only https"),
            ("ftp://file.example.com/a.mp3", "only https"),
            ("file:///etc/passwd", "has no host"),
            ("https://user:pw@file.example.com/a.mp3", "credentials"),
            ("https://user@file.example.com/a.mp3", "credentials"),
            ("https:///a.mp3", "has no host"),
            ("https://[::1/a.mp3", "malformed"),
            ("https://file.example.com:x/a.mp3", "malformed"),
            ("nonsense", "has no host"),
        ],
    )
    def test_link_other_than_plain_https_is_refused(self, url: str, reason: str) -> None:
        with pytest.raises(DownloadRefusedError, match=reason):
            DownloadGuard().check_url(url)

    def test_message_never_contains_the_signature_of_a_link(self) -> None:
        with pytest.raises(DownloadRefusedError) as e:
            DownloadGuard().check_url("http://file.example.com/a.mp3?X-Amz-Signature=secret")

        assert "secret" not in str(e.value)


class TestAllowsHost:
    @pytest.mark.parametrize(
        "host, allowed",
        [
            ("file.example.com", True),
            ("FILE.EXAMPLE.COM.", True),
            ("a.cdn.net", True),
            ("a.b.cdn.net", True),
            ("cdn.net", False),
            ("evilcdn.net", False),
            ("file.example.com.evil.net", False),
            ("xfile.example.com", False),
        ],
    )
    def test_host_is_compared_with_the_list(self, host: str, allowed: bool) -> None:
        guard = DownloadGuard(allowed_hosts=("file.example.com", "*.cdn.net"))

        assert guard.allows_host(host) is allowed


class TestAllowsAddress:
    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
    def test_public_address_is_allowed(self, address: str) -> None:
        assert DownloadGuard().allows_address(address)

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
        ],
    )
    def test_non_public_address_is_refused(self, address: str) -> None:
        assert not DownloadGuard().allows_address(address)

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "8.8.8.8"])
    def test_private_address_is_allowed_for_the_sandbox(self, address: str) -> None:
        assert DownloadGuard(allow_private_hosts=True).allows_address(address)

    @pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
    def test_address_of_cloud_metadata_is_refused_even_for_the_sandbox(self, address: str) -> None:
        assert not DownloadGuard(allow_private_hosts=True).allows_address(address)


class TestResolve:
    def test_one_private_address_is_enough_to_refuse_a_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        resolve_to(monkeypatch, "8.8.8.8", "10.0.0.1")

        with pytest.raises(DownloadRefusedError, match=r"stems\.example\.com.*10\.0\.0\.1"):
            DownloadGuard().resolve("stems.example.com", 443)

    @pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost"])
    def test_private_address_in_another_notation_is_refused(self, host: str) -> None:
        with pytest.raises(DownloadRefusedError, match="not a public address"):
            DownloadGuard().resolve(host, 443)


class TestGuardedSession:
    def test_allowed_host_is_downloaded_from(self, host: StemHost) -> None:
        session = guarded_session(DownloadGuard(allow_private_hosts=True))

        assert session.get(host.serve("/a", b"sound")).content == b"sound"

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
    def test_private_host_is_never_connected_to(self, host: StemHost, name: str) -> None:
        session = guarded_session(DownloadGuard())

        with pytest.raises(DownloadRefusedError, match="not a public address"):
            session.get(f"https://{name}:{host.port}/a")
        assert host.connections == 0

    def test_checked_address_is_connected_to_though_the_host_name_resolves_to_another_one_later(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.serve("/a", b"secret")
        answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
        connected = []

        def getaddrinfo(name: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            addresses = [name] if name[0].isdigit() else next(answers)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

        def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
            connected.append(address[0])
            raise ConnectionRefusedError("refused")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr("airflow_provider_vocalsep.landing.session.create_connection", connect)
        session = guarded_session(DownloadGuard())

        with pytest.raises(Exception, match="refused"):
            session.get(f"https://rebinding.example.com:{host.port}/a")
        assert connected == ["8.8.8.8"]

    def test_redirect_to_a_private_address_is_refused_though_requests_follows_it(
        self, host: StemHost
    ) -> None:
        url = host.serve("/a", redirect_to="http://169.254.169.254/latest/meta-data")
        session = guarded_session(DownloadGuard(allow_private_hosts=True))

        with pytest.raises(DownloadRefusedError, match=r"169\.254\.169\.254"):
            session.get(url)

    def test_request_has_a_user_agent_but_neither_credentials_nor_cookies(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        url = host.serve("/a", b"x", headers={"Set-Cookie": "a=b"})
        session = guarded_session(DownloadGuard(allow_private_hosts=True))

        session.get(url)
        session.get(url)

        _, headers = host.requests[-1]
        assert headers["user-agent"].startswith("airflow-provider-vocalsep/")
        assert headers["accept-encoding"] == "identity"
        assert "authorization" not in headers
        assert "cookie" not in headers

    def test_proxy_without_a_list_of_hosts_is_refused(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{host.port}")
        monkeypatch.delenv("no_proxy", raising=False)

        with pytest.raises(DownloadRefusedError, match="download_hosts"):
            guarded_session(DownloadGuard()).get("https://file.example.com/a.mp3")

    def test_proxy_is_used_for_listed_hosts(self, host: StemHost, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{host.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        guard = DownloadGuard(allowed_hosts=("file.example.com",), allow_private_hosts=True)
        host.serve("http://file.example.com/a.mp3", b"sound")

        assert guarded_session(guard).get("http://file.example.com/a.mp3").content == b"sound"
        with pytest.raises(DownloadRefusedError, match="not among the allowed hosts"):
            guarded_session(guard).get("http://evil.example.com/a.mp3")
