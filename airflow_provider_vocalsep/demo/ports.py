"""Free ports of this machine's loopback interface."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing

#: The only interface that anything in the demo listens on.
LOOPBACK = "127.0.0.1"


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


def free_port(preferred: int | None = None) -> int:
    """
    Return the preferred port if nobody listens there, else any free one.

    :param preferred: Port that people expect, for example 8080.
    """
    return preferred if preferred is not None and is_free(preferred) else free_ports(1)[0]
