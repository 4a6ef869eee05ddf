from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_vocalsep.demo.ports import LOOPBACK, QUIET, free_port, free_ports, is_free, quiet_ports


@pytest.fixture(autouse=True)
def _claims_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


class TestFreePort:
    def test_takes_the_preferred_port_when_it_is_free(self):
        (free,) = free_ports(1)

        assert free_port(free) == free

    def test_takes_another_when_somebody_listens_there(self):
        with closing(socket.create_server((LOOPBACK, 0))) as server:
            taken = server.getsockname()[1]

            assert not is_free(taken)
            assert free_port(taken) != taken

    def test_takes_another_when_a_starting_stack_has_claimed_it(self):
        (port,) = free_ports(1)
        code = f"from airflow_provider_vocalsep.demo.ports import free_port; print(free_port({port}))"

        assert free_port(port) == port
        assert int(subprocess.check_output([sys.executable, "-c", code])) != port
        assert free_port(port) == port

    def test_several_are_all_different_and_free(self):
        ports = free_ports(20)

        assert len(set(ports)) == 20
        assert all(map(is_free, ports))


def test_quiet_ports_are_free_different_and_out_of_the_way_of_outgoing_connections():
    ports = quiet_ports(50)

    assert len(set(ports)) == 50
    assert all(port in QUIET and is_free(port) for port in ports)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert QUIET.stop <= first
