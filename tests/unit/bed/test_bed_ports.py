from __future__ import annotations

from pathlib import Path

from airflow_provider_vocalsep.demo.ports import is_free
from tests.bed.ports import QUIET, quiet_ports


class TestQuietPorts:
    def test_ports_are_free_and_distinct(self):
        ports = quiet_ports(50)

        assert len(set(ports)) == 50
        assert all(port in QUIET and is_free(port) for port in ports)

    def test_ports_are_below_those_of_outgoing_connections(self):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

        assert QUIET.stop <= first
