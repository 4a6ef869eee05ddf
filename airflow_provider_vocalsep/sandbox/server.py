"""Running the sandbox: in the foreground for the command, as a process of its own for tests and demos."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_vocalsep.sandbox.options import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds within which a sandbox must answer after its start.
_START_SECONDS = 60


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


@dataclass
class RunningSandbox:
    """
    A sandbox in a process of its own.

    :param url: Its address.
    :param api_key: The key that it accepts.
    :param process: The process.
    """

    url: str
    api_key: str
    process: subprocess.Popen[bytes]

    def catalogue(self) -> list[dict[str, Any]]:
        """Return its songs."""
        return list(self._get("catalogue"))

    def books(self) -> dict[str, Any]:
        """Return its accounts."""
        return dict(self._get("books"))

    def faults(self) -> list[dict[str, Any]]:
        """Return the switches that are on, and how often each has struck."""
        return list(self._get("faults"))

    def set_fault(self, place: str, kind: str, **settings: Any) -> str:
        """Switch a fault on and return its id."""
        answer = requests.post(
            f"{self.url}/sandbox/faults", json={"place": place, "kind": kind, **settings}, timeout=10
        )
        if answer.status_code == 422:
            raise ValueError(answer.text)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def clear_faults(self) -> None:
        """Switch every fault off."""
        requests.delete(f"{self.url}/sandbox/faults", timeout=10).raise_for_status()

    def _get(self, name: str) -> Any:
        answer = requests.get(f"{self.url}/sandbox/{name}", timeout=30)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def running_sandbox(**options: Any) -> Iterator[RunningSandbox]:
    """
    Start a sandbox process, and stop it at the end, also when that is an error.

    :param options: Fields of :class:`~airflow_provider_vocalsep.sandbox.options.SandboxOptions`; the port is a free one
        unless it is given.
    """
    chosen = SandboxOptions(**{"port": 0, **options})
    with tempfile.TemporaryDirectory(prefix="vocalsep-sandbox-") as folder:
        port_file = Path(folder) / "port"
        log_path = Path(folder) / "log"
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(chosen).items()
        }
        with log_path.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "airflow_provider_vocalsep.sandbox.server", str(port_file)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            assert process.stdin is not None  # noqa: S101 - asked for above
            process.stdin.write(json.dumps(settings).encode())
            process.stdin.close()
            url = _wait(process, port_file, log_path)
            yield RunningSandbox(url, chosen.api_key, process)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], port_file: Path, log_path: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists():
            url = port_file.read_text()
            try:
                if url and requests.get(f"{url}/sandbox/health", timeout=2).ok:
                    return url
            except requests.RequestException:
                pass
        time.sleep(0.05)
    raise RuntimeError(f"The sandbox did not start:\n{log_path.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _main(port_file: str) -> None:
    """Serve with the options on standard input, and leave the address in a file. For :func:`running_sandbox`."""
    settings = json.load(sys.stdin)
    for name in ("state_dir", "cache_dir"):
        settings[name] = Path(settings[name]) if settings[name] else None
    settings["faults"] = tuple(settings["faults"])
    serve(SandboxOptions(**settings), lambda url: Path(port_file).write_text(url))  # type: ignore[arg-type]


if __name__ == "__main__":
    _main(sys.argv[1])
