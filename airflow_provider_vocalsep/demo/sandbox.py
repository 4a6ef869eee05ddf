"""The local vendor as a service of the stack."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port
from airflow_provider_vocalsep.demo.processes import Service, wait_until
from airflow_provider_vocalsep.demo.secret import kept_secret
from airflow_provider_vocalsep.sandbox.server import RunningSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: What ``vocalsep sandbox`` listens on unless told otherwise.
DEFAULT_PORT = 9000


@contextmanager
def sandbox_service(
    directory: Path,
    *,
    port: int | None = DEFAULT_PORT,
    cache_dir: Path | None = None,
    options: Sequence[str] = (),
    log_path: Path | None = None,
) -> Iterator[RunningSandbox]:
    """
    Run the sandbox on loopback until the block ends.

    :param directory: Where it keeps its books, its key and what it separated; the same directory brings them back.
    :param port: Port to take if it is free.
    :param cache_dir: Folder of separated songs to use instead of one in the directory.
    :param options: More options of ``vocalsep sandbox``.
    :param log_path: Its log file; ``sandbox.log`` in the directory by default.
    :raises ServiceError: if it does not get ready.
    """
    directory = directory.resolve()
    port = free_port(port)
    api_key = kept_secret(directory / "api-key")
    service = Service(
        "Sandbox (vendor)",
        [
            *(sys.executable, "-m", "airflow_provider_vocalsep.sandbox"),
            *("--host", LOOPBACK, "--port", str(port), "--api-key", api_key),
            *("--state-dir", str(directory / "books"), "--cache-dir", str(cache_dir or directory / "cache")),
            *options,
        ],
        log_path=log_path or directory / "sandbox.log",
    )
    with service:
        sandbox = RunningSandbox(f"http://{LOOPBACK}:{port}", api_key, service.process)
        wait_until(
            lambda: bool(sandbox.catalogue()), what="the sandbox's catalogue", timeout=120, services=[service]
        )
        yield sandbox


def sandbox_connection(
    sandbox: RunningSandbox, *, callback_base_url: str | None = None, callback_secret: str | None = None
) -> dict[str, Any]:
    """
    Return the Airflow connection of a sandbox, in the shape of Airflow's REST API.

    :param sandbox: The sandbox.
    :param callback_base_url: Address of the API server that it calls back; ``None`` for polling alone.
    :param callback_secret: What signs callback addresses.
    """
    callbacks = {"callback_base_url": callback_base_url, "callback_secret": callback_secret}
    return {
        "conn_type": "vocalsep",
        "description": "The local sandbox",
        "host": sandbox.url,
        "password": sandbox.api_key,
        "extra": {
            "dialect": "sunoapi",
            "allow_private_hosts": True,
            **(callbacks if callback_base_url else {}),
        },
    }
