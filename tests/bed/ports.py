"""Ports for servers that start later than their port is chosen."""

from __future__ import annotations

import secrets

from airflow_provider_vocalsep.demo.ports import is_free

#: Below Linux's ports for outgoing connections (``ip_local_port_range``, 32768 to 60999), above most servers.
QUIET = range(20_000, 32_000)


def quiet_ports(count: int) -> list[int]:
    """
    Return distinct free ports of loopback that no outgoing connection will take.

    For servers that listen much later, or stop listening for a while.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = QUIET.start + secrets.randbelow(len(QUIET))
        if port not in chosen and is_free(port):
            chosen.append(port)
    return chosen
