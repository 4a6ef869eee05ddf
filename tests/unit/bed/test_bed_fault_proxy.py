"""The fault proxy does to real connections what it says."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress

import pytest
import requests

from tests.bed.fault_proxy import FaultProxy

PATIENCE = 5


class Echo:
    """Sends back what it gets, after its name."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._echo, args=[connection], daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(self.name)
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        # Not close alone: a thread that waits in accept would keep the socket open.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def servers():
    pair = [Echo(b"1"), Echo(b"2")]
    yield pair
    for server in pair:
        with suppress(OSError):
            server.close()


@pytest.fixture
def proxy(servers):
    with FaultProxy("test", [server.port for server in servers]) as running:
        yield running


def connect(proxy):
    return closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE))


def read(connection, length):
    data = b""
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return data


def says(proxy):
    with connect(proxy) as connection:
        return read(connection, 1)


def test_takes_the_targets_in_turn(proxy):
    assert [says(proxy) for _ in range(4)] == [b"1", b"2", b"1", b"2"]
    assert proxy.accepted == 4


def test_passes_over_a_target_that_is_gone(proxy, servers):
    servers[0].close()
    assert {says(proxy) for _ in range(4)} == {b"2"}


def test_resets_when_all_targets_are_gone(proxy, servers):
    for server in servers:
        server.close()
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)


def test_passes_large_data_unchanged_and_the_end_of_it(proxy):
    sent = bytes(range(256)) * 4096
    with connect(proxy) as connection:
        threading.Thread(
            target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)), daemon=True
        ).start()
        assert read(connection, len(sent) + 2)[1:] == sent
        assert connection.recv(1) == b""


def test_cut_holds_old_and_new_connections_until_healed(proxy):
    with connect(proxy) as old:
        assert read(old, 1) == b"1"
        proxy.cut()
        with connect(proxy) as new:
            old.sendall(b"x")
            for connection in (old, new):
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(PATIENCE)
            proxy.heal()
            assert read(old, 1) == b"x"
            assert read(new, 1) == b"2"


def test_refuse_resets_the_old_and_refuses_the_new_until_healed(proxy):
    with connect(proxy) as old:
        assert read(old, 1) == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with pytest.raises(ConnectionRefusedError), connect(proxy):
        pass
    proxy.heal()
    assert says(proxy) == b"2"


def test_delay_holds_back_both_ways(proxy):
    with connect(proxy) as connection:
        assert read(connection, 1) == b"1"
        proxy.delay(0.2)
        began = time.monotonic()
        connection.sendall(b"x")
        assert read(connection, 1) == b"x"
        assert 0.4 <= time.monotonic() - began < 2


@pytest.mark.parametrize("direction, arrives", [("to_client", 1000), ("to_server", 1001)])
def test_reset_next_breaks_in_mid_stream(proxy, direction, arrives):
    proxy.reset_next(after=1000, direction=direction)
    got = b""
    with connect(proxy) as connection:
        with suppress(ConnectionResetError):  # Linux may drop what has arrived but was not read
            connection.sendall(b"x" * 100_000)
            while data := connection.recv(65536):
                got += data
            pytest.fail("the connection ended in peace")
        assert len(got) <= arrives
    assert says(proxy) == b"2"


def test_reset_all_breaks_what_there_is_and_serves_what_comes(proxy):
    with connect(proxy) as old:
        assert read(old, 1) == b"1"
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    assert says(proxy) == b"2"


class TestAnswering:
    @pytest.fixture
    def web(self, httpserver):
        httpserver.expect_request("/x").respond_with_data("from the server")
        with FaultProxy("web", [httpserver.port]) as running, requests.Session() as session:
            session.trust_env = False

            def ask(method="GET", **arguments):
                return session.request(
                    method, f"http://127.0.0.1:{running.port}/x", timeout=PATIENCE, **arguments
                )

            yield running, ask

    def test_in_the_servers_place_on_new_connections_and_kept_ones(self, web):
        proxy, ask = web
        for _ in range(2):
            proxy.answer_next("503 Slow Down", "<Code>SlowDown</Code>", headers="Retry-After: 1\r\n")
            answer = ask()
            assert (answer.status_code, answer.reason) == (503, "Slow Down")
            assert (answer.text, answer.headers["Retry-After"]) == ("<Code>SlowDown</Code>", "1")
            assert ask().text == "from the server"

    def test_after_a_large_body_was_sent(self, web):
        proxy, ask = web
        proxy.answer_next("500 Internal Server Error")
        assert ask("PUT", data=b"x" * 5_000_000).status_code == 500

    def test_only_one_method_and_only_so_often(self, web):
        proxy, ask = web
        proxy.answer_next("500 No", method="PUT", times=2)
        assert [ask(m).status_code for m in ("GET", "PUT", "GET", "PUT", "PUT")] == [200, 500, 200, 500, 200]

    def test_ends_when_healed(self, web):
        proxy, ask = web
        proxy.answer_next("500 No", times=5)
        proxy.heal()
        assert ask().status_code == 200

    def test_is_lost_once_while_the_request_was_carried_out(self, web, httpserver):
        proxy, ask = web
        proxy.lose_answer(after=1)
        assert ask("PUT", data=b"1").status_code == 200
        with pytest.raises(requests.ConnectionError):
            ask("PUT", data=b"2")
        assert ask().status_code == 200
        assert [request.get_data() for request, _ in httpserver.log] == [b"1", b"2", b""]


def test_closing_twice_is_fine(servers):
    proxy = FaultProxy("twice", [servers[0].port])
    proxy.close()
    proxy.close()
