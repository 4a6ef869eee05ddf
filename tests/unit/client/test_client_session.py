from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_vocalsep.client import session


@pytest.fixture
def server():
    """Run a server that keeps connections open and counts them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            self.server.connections += 1

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.connections = 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def vendor():
    with session.new_session() as made:
        yield made


def test_connection_is_reused(server, vendor):
    for _ in range(3):
        assert vendor.get(server.url).text == "ok"
    assert server.connections == 1


def test_idle_connection_is_not_reused(server, vendor, monkeypatch):
    monkeypatch.setattr(session, "MAX_IDLE", 0.02)
    for _ in range(3):
        vendor.get(server.url)
        time.sleep(0.05)

    assert server.connections == 3


def test_idle_connection_through_a_proxy_is_not_reused(server, vendor, monkeypatch):
    monkeypatch.setattr(session, "MAX_IDLE", 0.05)
    proxied = {"proxies": {"http": server.url}}
    for pause in (0.0, 0.1, 0.0):
        assert vendor.get("http://vendor.example/", **proxied).text == "ok"
        time.sleep(pause)

    assert server.connections == 2


def test_only_https_connections_are_encrypted():
    pools = session.new_session().get_adapter("https://").poolmanager.pool_classes_by_scheme

    assert issubclass(pools["https"].ConnectionCls, session.HTTPSConnection)
    assert not issubclass(pools["http"].ConnectionCls, session.HTTPSConnection)
