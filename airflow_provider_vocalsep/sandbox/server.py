"""Serving the sandbox, and talking to one that runs."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.options import SandboxOptions


def serve(options: SandboxOptions, announce: Callable[[str], None]) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param options: The sandbox's options.
    :param announce: Called with the sandbox's address once it listens.
    :raises OSError: the port is taken.
    """
    import uvicorn

    from airflow_provider_vocalsep.sandbox.app import create_app, with_transport

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


@dataclass(frozen=True)
class RunningSandbox:
    """
    A sandbox in a process of its own.

    :param url: Its address.
    :param api_key: The key that it accepts.
    :param process: The process.
    """

    url: str
    api_key: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    def catalogue(self) -> list[dict[str, Any]]:
        """Return its songs."""
        return list(self._call("GET", "catalogue").json())

    def books(self) -> dict[str, Any]:
        """Return its accounts: what was submitted, charged, asked and delivered."""
        return dict(self._call("GET", "books").json())

    def faults(self) -> list[dict[str, Any]]:
        """Return the fault switches that are on, and how often each has struck."""
        return list(self._call("GET", "faults").json())

    def set_fault(self, place: str, kind: str, **settings: Any) -> str:
        """
        Switch a fault on, see :class:`~airflow_provider_vocalsep.sandbox.faults.Fault`.

        :return: Its id.
        :raises ValueError: there is no such fault.
        """
        return str(self._call("POST", "faults", {"place": place, "kind": kind, **settings}).json()["id"])

    def clear_faults(self) -> None:
        """Switch every fault off."""
        self._call("DELETE", "faults")

    def _call(self, method: str, name: str, body: Any = None) -> requests.Response:
        with requests.Session() as session:
            # Proxies and .netrc of the caller have no business with it.
            session.trust_env = False
            answer = session.request(method, f"{self.url}/sandbox/{name}", json=body, timeout=30)
        if answer.status_code == 422:
            raise ValueError(answer.text)
        answer.raise_for_status()
        return answer
