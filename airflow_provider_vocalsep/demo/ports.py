"""Free ports of this machine's loopback interface."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

#: The only interface that anything in the demo listens on.
LOOPBACK = "127.0.0.1"

#: Below what Linux takes for outgoing connections (``ip_local_port_range``, 32768 to 60999), above most servers.
QUIET = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """
    Tell whether a server could listen on a loopback port now.

    :param port: Port number.
    """
    with closing(socket.socket()) as probe:
        # As servers do: a port whose last connection has only just closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """
    Find several free ports at once, all different.

    :param count: How many.
    """
    with ExitStack() as held:
        probes = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


def quiet_ports(count: int) -> list[int]:
    """
    Find free ports that no outgoing connection takes in the meantime, all different.

    For servers that listen much later, or stop listening for a while.

    :param count: How many.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = QUIET.start + secrets.randbelow(len(QUIET))
        if port not in chosen and is_free(port):
            chosen.append(port)
    return chosen


def free_port(preferred: int | None = None) -> int:
    """
    Return the preferred port if nobody listens there or is about to, else any free one.

    :param preferred: Port that people expect, for example 8080.
    """
    if preferred is not None and _claim(preferred) and is_free(preferred):
        return preferred
    return free_ports(1)[0]


#: Open lock files by port, held until this process ends.
_claims: dict[int, int] = {}


def _claim(port: int) -> bool:
    """Agree with other stacks that start now: Airflow takes ten seconds until it listens."""
    if port in _claims:
        return True
    lock = None
    try:
        lock = os.open(
            Path(tempfile.gettempdir()) / f"vocalsep-port-{port}.lock", os.O_CREAT | os.O_RDWR, 0o666
        )
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if lock is not None:
            os.close(lock)
        return False
    _claims[port] = lock
    return True
