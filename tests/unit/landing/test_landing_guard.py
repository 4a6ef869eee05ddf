from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.landing.errors import DownloadRefusedError
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.session import guarded_session

if TYPE_CHECKING:
    from landing_host import StemHost


def lead(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name lead to these addresses."""

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class TestALink:
    @pytest.mark.parametrize(
        "url, why",
        [
            ("http://file.example.com/a.mp3", "only https"),
            ("ftp://file.example.com/a.mp3", "only https"),
            ("file:///etc/passwd", "names no host"),
            ("https://user:pw@file.example.com/a.mp3", "credentials"),
            ("https://user@file.example.com/a.mp3", "credentials"),
            ("https:///a.mp3", "names no host"),
            ("https://[::1/a.mp3", "cannot be read"),
            ("https://file.example.com:x/a.mp3", "cannot be read"),
            ("nonsense", "names no host"),
        ],
    )
    def test_that_is_not_plainly_https_is_refused(self, url: str, why: str) -> None:
        with pytest.raises(DownloadRefusedError, match=why):
            DownloadGuard().check_url(url)

    def test_is_never_quoted_with_its_signature(self) -> None:
        with pytest.raises(DownloadRefusedError) as e:
            DownloadGuard().check_url("http://file.example.com/a.mp3?X-Amz-Signature=secret")
        assert "secret" not in str(e.value)

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
    def test_is_held_against_the_list_of_hosts(self, host: str, allowed: bool) -> None:
        guard = DownloadGuard(allowed_hosts=("file.example.com", "*.cdn.net"))
        assert guard.allows_host(host) is allowed


class TestAnAddress:
    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
    def test_that_is_for_everyone_is_allowed(self, address: str) -> None:
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
    def test_that_is_not_for_everyone_is_refused(self, address: str) -> None:
        assert not DownloadGuard().allows_address(address)

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "8.8.8.8"])
    def test_may_be_private_for_the_sandbox(self, address: str) -> None:
        assert DownloadGuard(allow_private_hosts=True).allows_address(address)

    @pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
    def test_of_cloud_metadata_stays_refused_even_then(self, address: str) -> None:
        assert not DownloadGuard(allow_private_hosts=True).allows_address(address)

    def test_among_public_ones_is_enough_to_refuse_a_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lead(monkeypatch, "8.8.8.8", "10.0.0.1")
        with pytest.raises(DownloadRefusedError, match=r"stems\.example\.com.*10\.0\.0\.1"):
            DownloadGuard().resolve("stems.example.com", 443)

    @pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost"])
    def test_in_disguise_is_recognised(self, host: str) -> None:
        with pytest.raises(DownloadRefusedError, match="not a public address"):
            DownloadGuard().resolve(host, 443)


class TestAGuardedSession:
    def test_connects_to_what_the_guard_allows(self, host: StemHost) -> None:
        session = guarded_session(DownloadGuard(allow_private_hosts=True))
        assert session.get(host.serve("/a", b"sound")).content == b"sound"

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
    def test_never_connects_to_a_private_host(self, host: StemHost, name: str) -> None:
        session = guarded_session(DownloadGuard())
        with pytest.raises(DownloadRefusedError, match="not a public address"):
            session.get(f"https://{name}:{host.port}/a")
        assert host.connections == 0

    def test_connects_to_the_address_that_was_checked_though_the_name_changes(
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
            raise ConnectionRefusedError("nobody there")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr("airflow_provider_vocalsep.landing.session.create_connection", connect)
        session = guarded_session(DownloadGuard())
        with pytest.raises(Exception, match="nobody there"):
            session.get(f"https://rebinding.example.com:{host.port}/a")
        assert connected == ["8.8.8.8"]

    def test_refuses_a_redirect_to_a_private_address_though_a_library_follows_it(
        self, host: StemHost
    ) -> None:
        url = host.serve("/a", location="http://169.254.169.254/latest/meta-data")
        session = guarded_session(DownloadGuard(allow_private_hosts=True))
        with pytest.raises(DownloadRefusedError, match=r"169\.254\.169\.254"):
            session.get(url)

    def test_names_itself_and_carries_no_credentials_and_no_cookies(
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

    def test_behind_a_proxy_wants_the_hosts_to_be_listed(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{host.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(DownloadRefusedError, match="download_hosts"):
            guarded_session(DownloadGuard()).get("https://file.example.com/a.mp3")

    def test_uses_a_proxy_for_hosts_that_are_listed(
        self, host: StemHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{host.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        guard = DownloadGuard(allowed_hosts=("file.example.com",), allow_private_hosts=True)
        host.serve("http://file.example.com/a.mp3", b"sound")
        assert guarded_session(guard).get("http://file.example.com/a.mp3").content == b"sound"
        with pytest.raises(DownloadRefusedError, match="not among the allowed hosts"):
            guarded_session(guard).get("http://evil.example.com/a.mp3")
