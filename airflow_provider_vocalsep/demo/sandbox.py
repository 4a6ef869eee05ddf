"""The sandbox as a service of the demo."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port
from airflow_provider_vocalsep.demo.processes import Service, wait_until
from airflow_provider_vocalsep.demo.secret import load_or_create_secret
from airflow_provider_vocalsep.sandbox.server import RunningSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Default port of ``vocalsep sandbox``.
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

    :param directory: Folder of its books, its API key and its stems, which the next run finds there.
    :param port: Preferred port; another free one if it is taken.
    :param cache_dir: Folder of separated songs; by default inside the directory.
    :param options: Further options of ``vocalsep sandbox``.
    :param log_path: Log file; by default ``sandbox.log`` in the directory.
    :raises ServiceError: the sandbox does not start.
    """
    directory = directory.resolve()
    port = free_port(port)
    api_key = load_or_create_secret(directory / "api-key")
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
    Return the Airflow connection of a sandbox, as Airflow's REST API takes it.

    :param callback_base_url: Address of the API server for callbacks; ``None`` for polling only.
    :param callback_secret: Secret that signs callback addresses.
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
