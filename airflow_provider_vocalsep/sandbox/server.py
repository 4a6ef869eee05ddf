"""Starts the sandbox, and calls a running one."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_vocalsep.sandbox.options import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

#: Seconds within which a sandbox starts or stops, even on a busy machine.
_TIMEOUT = 60


class SandboxError(RuntimeError):
    """The sandbox could not be started."""


def listen(options: SandboxOptions) -> socket.socket:
    """
    Listen on the sandbox's port.

    :raises OSError: the port is taken, or this machine does not have the address.
    """
    return socket.create_server((options.host, options.port), backlog=512)


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def build_server(options: SandboxOptions, url: str) -> uvicorn.Server:
    """
    Build the server and its application.

    :param url: Address on which it listens, for links to stems.
    :raises ValueError: a fault or the submit rate has a wrong format.
    :raises WeightsMissingError: ``engine="spleeter"`` without its weights.
    """
    import uvicorn

    from airflow_provider_vocalsep.sandbox.app import create_app, with_transport

    app = create_app(options)
    app.state.vendor.worker.base_url = (options.public_url or url).rstrip("/")
    return uvicorn.Server(
        uvicorn.Config(
            with_transport(app),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
    )


@contextmanager
def running_sandbox(*, in_process: bool = False, **options: Any) -> Iterator[RunningSandbox]:
    """
    Run a sandbox on a free port of loopback until the block ends.

    .. code-block:: python

        with running_sandbox(dialect="kie", task_seconds=0) as sandbox:
            ...  # sandbox.url, sandbox.api_key, sandbox.books(), sandbox.set_fault("read", "html", times=3)

    :param in_process: Serve from a thread of this process, which starts faster. By default, the sandbox has
        its own process and does not compete with this one for the GIL.
    :param options: Fields of :class:`~airflow_provider_vocalsep.sandbox.options.SandboxOptions`.
    :raises SandboxError: the sandbox does not start; the message contains its output.
    """
    settings = SandboxOptions(**{"port": 0, **options})
    with _in_thread(settings) if in_process else _in_subprocess(settings) as sandbox:
        yield sandbox


@contextmanager
def _in_thread(options: SandboxOptions) -> Iterator[RunningSandbox]:
    with listen(options) as listener:
        url = url_of(listener)
        server = build_server(options, url)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True
        )
        thread.start()
        try:
            yield RunningSandbox(url, options.api_key)
        finally:
            server.should_exit = True
            thread.join(_TIMEOUT)


@contextmanager
def _in_subprocess(options: SandboxOptions) -> Iterator[RunningSandbox]:
    with tempfile.TemporaryDirectory(prefix="vocalsep-sandbox-") as folder:
        port_file, output = Path(folder, "port"), Path(folder, "output")
        command = [sys.executable, "-m", "airflow_provider_vocalsep.sandbox", *options.arguments()]
        with output.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [*command, "--port-file", str(port_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            port = _read_port(port_file, process, output)
            yield RunningSandbox(f"http://{options.host}:{port}", options.api_key, process)
        finally:
            process.terminate()
            try:
                process.wait(_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _read_port(port_file: Path, process: subprocess.Popen[bytes], output: Path) -> int:
    deadline = time.monotonic() + _TIMEOUT
    while not port_file.exists() or not (port := port_file.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SandboxError(
                f"The sandbox did not start. Its output:\n{output.read_text(errors='replace')}"
            )
        time.sleep(0.02)
    return int(port)


@dataclass(frozen=True)
class RunningSandbox:
    """
    A running sandbox.

    :param process: Its process, unless it runs in this one.
    """

    url: str
    api_key: str = field(repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def catalogue(self) -> list[dict[str, Any]]:
        """Return the sandbox's songs."""
        return list(self._call("GET", "catalogue").json())

    def books(self) -> dict[str, Any]:
        """Return the vendor's books: totals, one row per task, and sums by track."""
        return dict(self._call("GET", "books").json())

    def totals(self) -> dict[str, Any]:
        """Return only the totals of the books, which stay small with thousands of tracks."""
        return dict(self._call("GET", "books?totals_only=true").json())

    def faults(self) -> list[dict[str, Any]]:
        """Return the active faults with the number of times that each has occurred."""
        return list(self._call("GET", "faults").json())

    def set_fault(self, place: str, kind: str, **settings: Any) -> str:
        """
        Add a fault, see :class:`~airflow_provider_vocalsep.sandbox.faults.Fault`, and return its id.

        :raises ValueError: the place, the kind or a setting does not exist.
        """
        return str(self._call("POST", "faults", {"place": place, "kind": kind, **settings}).json()["id"])

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call("DELETE", "faults")

    def _call(self, method: str, name: str, body: Any = None) -> requests.Response:
        with requests.Session() as session:
            # Ignore the caller's proxies and .netrc.
            session.trust_env = False
            answer = session.request(method, f"{self.url}/sandbox/{name}", json=body, timeout=30)
        if answer.status_code == 422:
            raise ValueError(answer.text)
        answer.raise_for_status()
        return answer
