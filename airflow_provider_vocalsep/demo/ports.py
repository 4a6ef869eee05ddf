"""Free ports of this machine's loopback interface."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

#: The only interface on which the demo's servers listen.
LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether a server could listen on a loopback port now."""
    with closing(socket.socket()) as probe:
        # Like servers, count a port as free although its last connection has only just closed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return several distinct free ports."""
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port(preferred: int | None = None) -> int:
    """Return the preferred port if it is free and no other stack has claimed it, else any free port."""
    if preferred is not None and _claim(preferred) and is_free(preferred):
        return preferred
    return free_ports(1)[0]


#: Open lock files by port; the locks last until this process ends.
_claims: dict[int, int] = {}


def _claim(port: int) -> bool:
    """Return whether this process holds the port's lock: Airflow starts to listen only after ten seconds."""
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
