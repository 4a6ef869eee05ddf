from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress

import pytest
import requests

from tests.bed.fault_proxy import FaultProxy

TIMEOUT = 5


class Echo:
    """A server that sends its name, then echoes what it receives."""

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
        # close() alone would leave the socket open while the thread waits in accept().
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
    return closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=TIMEOUT))


def read(connection, length):
    data = b""
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return data


def read_name(proxy):
    with connect(proxy) as connection:
        return read(connection, 1)


class TestForwarding:
    def test_targets_take_turns(self, proxy):
        assert [read_name(proxy) for _ in range(4)] == [b"1", b"2", b"1", b"2"]
        assert proxy.accepted == 4

    def test_closed_target_is_skipped(self, proxy, servers):
        servers[0].close()

        assert {read_name(proxy) for _ in range(4)} == {b"2"}

    def test_connection_is_reset_if_all_targets_are_closed(self, proxy, servers):
        for server in servers:
            server.close()

        with pytest.raises(ConnectionResetError), connect(proxy) as connection:
            connection.recv(1)

    def test_large_data_and_the_end_of_the_stream_are_forwarded(self, proxy):
        sent = bytes(range(256)) * 4096

        with connect(proxy) as connection:
            threading.Thread(
                target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)), daemon=True
            ).start()

            assert read(connection, len(sent) + 2)[1:] == sent
            assert connection.recv(1) == b""

    def test_second_close_does_nothing(self, servers):
        proxy = FaultProxy("twice", [servers[0].port])

        proxy.close()
        proxy.close()


class TestConnectionFaults:
    def test_cut_holds_old_and_new_connections_until_healed(self, proxy):
        with connect(proxy) as old:
            assert read(old, 1) == b"1"

            proxy.cut()

            with connect(proxy) as new:
                old.sendall(b"x")
                for connection in (old, new):
                    connection.settimeout(0.1)
                    with pytest.raises(TimeoutError):
                        connection.recv(1)
                    connection.settimeout(TIMEOUT)
                proxy.heal()
                assert read(old, 1) == b"x"
                assert read(new, 1) == b"2"

    def test_refuse_resets_old_and_refuses_new_connections_until_healed(self, proxy):
        with connect(proxy) as old:
            assert read(old, 1) == b"1"

            proxy.refuse()

            with pytest.raises(ConnectionResetError):
                old.recv(1)
        with pytest.raises(ConnectionRefusedError), connect(proxy):
            pass
        proxy.heal()
        assert read_name(proxy) == b"2"

    def test_delay_holds_back_both_directions(self, proxy):
        with connect(proxy) as connection:
            assert read(connection, 1) == b"1"

            proxy.delay(0.1)

            began = time.monotonic()
            connection.sendall(b"x")
            assert read(connection, 1) == b"x"
            assert 0.2 <= time.monotonic() - began < 2

    @pytest.mark.parametrize("direction, arrives", [("to_client", 1000), ("to_server", 1001)])
    def test_reset_next_breaks_one_connection_in_mid_stream(self, proxy, direction, arrives):
        proxy.reset_next(after=1000, direction=direction)

        received = b""
        with connect(proxy) as connection:
            with suppress(ConnectionResetError):  # Linux may drop data that arrived but was not read.
                connection.sendall(b"x" * 100_000)
                while data := connection.recv(65536):
                    received += data
                pytest.fail("the connection ended without a reset")
            assert len(received) <= arrives
        assert read_name(proxy) == b"2"

    def test_reset_all_breaks_old_connections_and_serves_new_ones(self, proxy):
        with connect(proxy) as old:
            assert read(old, 1) == b"1"

            proxy.reset_all()

            with pytest.raises(ConnectionResetError):
                old.recv(1)
        assert read_name(proxy) == b"2"


class TestHttpFaults:
    @pytest.fixture
    def web(self, httpserver):
        httpserver.expect_request("/x").respond_with_data("from the server")
        with FaultProxy("web", [httpserver.port]) as running, requests.Session() as session:
            session.trust_env = False

            def send(method="GET", **arguments):
                return session.request(
                    method, f"http://127.0.0.1:{running.port}/x", timeout=TIMEOUT, **arguments
                )

            yield running, send

    def test_answer_replaces_the_servers_on_new_and_kept_connections(self, web):
        proxy, send = web
        for _ in range(2):
            proxy.answer_next("503 Slow Down", "<Code>SlowDown</Code>", headers="Retry-After: 1\r\n")

            answer = send()

            assert (answer.status_code, answer.reason) == (503, "Slow Down")
            assert (answer.text, answer.headers["Retry-After"]) == ("<Code>SlowDown</Code>", "1")
            assert send().text == "from the server"

    def test_answer_arrives_after_a_large_request_body(self, web):
        proxy, send = web

        proxy.answer_next("500 Internal Server Error")

        assert send("PUT", data=b"x" * 5_000_000).status_code == 500

    def test_answer_is_limited_to_a_method_and_a_number_of_requests(self, web):
        proxy, send = web

        proxy.answer_next("500 No", method="PUT", times=2)

        codes = [send(method).status_code for method in ("GET", "PUT", "GET", "PUT", "PUT")]
        assert codes == [200, 500, 200, 500, 200]

    def test_heal_ends_pending_answers(self, web):
        proxy, send = web
        proxy.answer_next("500 No", times=5)

        proxy.heal()

        assert send().status_code == 200

    def test_lose_answer_loses_one_answer_to_a_forwarded_request(self, web, httpserver):
        proxy, send = web

        proxy.lose_answer(after=1)

        assert send("PUT", data=b"1").status_code == 200
        with pytest.raises(requests.ConnectionError):
            send("PUT", data=b"2")
        assert send().status_code == 200
        assert [request.get_data() for request, _ in httpserver.log] == [b"1", b"2", b""]
