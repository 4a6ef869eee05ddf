"""Serving the sandbox."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from airflow_provider_vocalsep.sandbox.app import create_app, with_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.options import SandboxOptions


def serve(options: SandboxOptions, announce: Callable[[str], None]) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param options: The sandbox's options.
    :param announce: Called with the sandbox's address once it listens.
    :raises OSError: the port is taken.
    """
    with socket.create_server((options.host, options.port), backlog=512) as listener:
        url = f"http://{options.host}:{listener.getsockname()[1]}"
        app = create_app(options)
        app.state.vendor.worker.base_url = (options.public_url or url).rstrip("/")
        config = uvicorn.Config(
            with_transport(app),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        announce(url)
        uvicorn.Server(config).run(sockets=[listener])
