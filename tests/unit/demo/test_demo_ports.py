from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from contextlib import closing

import pytest

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port, free_ports, is_free


@pytest.fixture(autouse=True)
def _own_lock_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


class TestFreePort:
    def test_free_preferred_port_is_returned(self):
        (free,) = free_ports(1)

        assert free_port(free) == free

    def test_another_port_is_returned_if_a_server_listens_on_the_preferred_one(self):
        with closing(socket.create_server((LOOPBACK, 0))) as server:
            taken = server.getsockname()[1]

            assert not is_free(taken)
            assert free_port(taken) != taken

    def test_another_port_is_returned_if_another_stack_has_claimed_the_preferred_one(self):
        (port,) = free_ports(1)
        code = f"from airflow_provider_vocalsep.demo.ports import free_port; print(free_port({port}))"

        assert free_port(port) == port
        assert int(subprocess.check_output([sys.executable, "-c", code])) != port
        assert free_port(port) == port


class TestFreePorts:
    def test_ports_are_distinct_and_free(self):
        ports = free_ports(20)

        assert len(set(ports)) == 20
        assert all(map(is_free, ports))
