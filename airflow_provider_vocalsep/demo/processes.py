"""Servers as child processes: started, waited for, and stopped with everything that they started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess  # nosec B404: starts our own servers, no shell
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

from airflow_provider_vocalsep.demo.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType, TracebackType

    from typing_extensions import Self

#: Lines of a log that an error message quotes.
TAIL_LINES = 20

#: Prefixes of the caller's variables that services must not inherit: Airflow settings, AWS credentials.
FOREIGN_PREFIXES = ("AIRFLOW_", "AWS_")


class ServiceError(RuntimeError):
    """A service ended, was not ready in time, or could not be started."""


class Service:
    """
    A server in a child process; as a context manager, it is stopped at the end of the block.

    :param name: Its name in messages.
    :param log_path: File to which its output is appended.
    :param env: Variables that it gets in addition to :func:`clean_environment`.
    :param grace: Seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        grace: float = 5.0,
    ) -> None:
        self.name = name
        self.command = [*_parent_death_prefix(), *command]
        self.log_path = log_path
        self.env = {**clean_environment(), **(env or {})}
        self.grace = grace
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of a started service."""
        if self._process is None:
            raise ServiceError(f"{self.name} has not been started.")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """
        Start the process, without waiting until it is ready.

        :raises ServiceError: the program cannot be started.
        """
        if self.running:
            return self
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    self.command,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as e:
                raise ServiceError(f"{self.name} could not be started: {e}.") from e
        return self

    def stop(self) -> None:
        """Terminate the process and its children, and kill those that still run after the grace time."""
        stop_services([self])

    def kill(self) -> None:
        """Kill the process and its children, as if the machine were lost."""
        stop_services([self], signal.SIGKILL)

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=self.grace)
            self._process = None


def stop_services(services: Sequence[Service], number: signal.Signals = signal.SIGTERM) -> None:
    """
    Stop several services and their children at the same time; services that do not run are skipped.

    :param number: Signal that they get. Processes that still run after the longest grace time are killed.
    """
    started = [service for service in services if service._process is not None]
    grace = max((service.grace for service in started), default=0.0)
    # List the children before the signal: each Airflow task has its own process group, and once its parent
    # has ended it is no longer our descendant.
    processes = [process for service in started for process in _with_children(service.process.pid)]
    _send_signal(processes, number)
    _, left = psutil.wait_procs(processes, timeout=grace)
    _send_signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=grace)
    for service in started:
        service._reap()


def clean_environment() -> dict[str, str]:
    """
    Return this process's environment for a service.

    Without the caller's Airflow and AWS settings, without a proxy for loopback, and with unbuffered output.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    own = {"NO_PROXY": f"{LOOPBACK},localhost", "no_proxy": f"{LOOPBACK},localhost", "PYTHONUNBUFFERED": "1"}
    return {**kept, **own}


def wait_until(
    ready: Callable[[], bool],
    *,
    what: str,
    timeout: float,
    services: Sequence[Service] = (),
    every: float = 0.1,
) -> None:
    """
    Wait for a condition while the services that it depends on run.

    :param ready: The condition; an ``OSError`` (such as a refused connection) counts as false.
    :param what: Name of the condition, for the error message.
    :param timeout: Seconds.
    :param services: Services without which the condition cannot become true.
    :param every: Seconds between two checks.
    :raises ServiceError: at the time-out, or when a service has ended; the message ends with the logs.
    """
    deadline = time.monotonic() + timeout
    while True:
        with suppress(OSError):
            if ready():
                return
        for service in services:
            if not service.running:
                raise ServiceError(
                    f"{service.name} ended while waiting for {what}. "
                    f"The end of its log, {service.log_path}:\n{service.log_tail()}"
                )
        if time.monotonic() > deadline:
            logs = "\n".join(f"-- {s.name}, {s.log_path}:\n{s.log_tail()}" for s in services)
            raise ServiceError(f"Timed out after {timeout:.0f} s waiting for {what}.\n{logs}".rstrip())
        time.sleep(every)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise ``SystemExit`` on SIGTERM and SIGHUP, so that context managers stop the services."""

    def exit_process(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, exit_process) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parent_death_prefix() -> tuple[str, ...]:
    """Return the command prefix with which Linux terminates a child when this process is killed."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _with_children(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send_signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
