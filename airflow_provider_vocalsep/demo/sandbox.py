"""The local vendor in a process of its own."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port
from airflow_provider_vocalsep.demo.processes import Service, wait_until
from airflow_provider_vocalsep.demo.secret import kept_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: What ``vocalsep sandbox`` listens on unless told otherwise.
DEFAULT_PORT = 9000


@dataclass(frozen=True)
class SandboxServer:
    """
    A running sandbox.

    :param url: Address of its API.
    :param api_key: The key that it accepts.
    :param service: Its process.
    """

    url: str
    api_key: str = field(repr=False)
    service: Service

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection of this vendor, in the shape of Airflow's REST API."""
        return {
            "conn_type": "vocalsep",
            "description": "The local sandbox",
            "host": self.url,
            "password": self.api_key,
            "extra": {"dialect": "sunoapi", "allow_private_hosts": True},
        }

    def catalogue(self) -> list[dict[str, Any]]:
        """Return its songs."""
        return list(self._get("catalogue"))

    def books(self) -> dict[str, Any]:
        """Return its accounts: what was submitted, charged, asked and delivered."""
        return dict(self._get("books"))

    def _get(self, name: str) -> Any:
        with requests.Session() as session:
            # Proxies and .netrc of the caller have no business on loopback.
            session.trust_env = False
            answer = session.get(f"{self.url}/sandbox/{name}", timeout=10)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def running_sandbox_process(
    directory: Path,
    *,
    port: int | None = DEFAULT_PORT,
    options: Sequence[str] = (),
    log_path: Path | None = None,
) -> Iterator[SandboxServer]:
    """
    Run the sandbox on loopback until the block ends.

    :param directory: Where it keeps its books, its results and its key.
    :param port: Port to take if it is free.
    :param options: More options of ``vocalsep sandbox``.
    :param log_path: Its log file; ``sandbox.log`` in the directory by default.
    :raises ServiceError: if it does not get ready.
    """
    directory = directory.resolve()
    port = free_port(port)
    api_key = kept_secret(directory / "api-key")
    command = [
        sys.executable,
        "-m",
        "airflow_provider_vocalsep.sandbox",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    service = Service(
        "Sandbox (vendor)",
        [*command, "--api-key", api_key, "--state-dir", str(directory / "state"), *options],
        log_path=log_path or directory / "sandbox.log",
    )
    with service:
        server = SandboxServer(f"http://{LOOPBACK}:{port}", api_key, service)
        wait_until(
            lambda: bool(server.catalogue()), what="the sandbox's catalogue", timeout=120, services=[service]
        )
        yield server
