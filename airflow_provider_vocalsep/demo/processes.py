"""Child processes that are ready when they say so and gone when we are."""

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

#: Variables of the caller that would bend a demo or test service: Airflow settings, AWS accounts.
FOREIGN_PREFIXES = ("AIRFLOW_", "AWS_")


class ServiceError(RuntimeError):
    """A service ended, did not get ready in time, or could not be started."""


class Service:
    """
    A server in a child process, with a log file; also a context manager that stops it.

    :param name: What messages call it.
    :param command: Program and arguments.
    :param log_path: File that its output is appended to.
    :param env: Variables on top of the cleaned environment, see :func:`clean_environment`.
    :param grace: Seconds between asking it to stop and killing it.
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
        self.command = [*_dies_with_parent(), *command]
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
            raise ServiceError(f"{self.name} was not started.")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """
        Start the process; does not wait until it is ready.

        :raises ServiceError: if the program cannot be started.
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
        """Ask the process and everything it started to end, and kill what is left after the grace time."""
        stop_services([self])

    def kill(self) -> None:
        """Kill the process and everything it started, as a lost machine would."""
        stop_services([self], signal.SIGKILL)

    def restart(self) -> Self:
        """Stop the process if it runs, and start it again."""
        self.stop()
        return self.start()

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """
        Return the end of the log.

        :param lines: How many lines.
        """
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=self.grace)
            self._process = None


def stop_services(services: Sequence[Service], how: signal.Signals = signal.SIGTERM) -> None:
    """
    End several services and everything they started, at the same time.

    :param services: Which; those that do not run are left alone.
    :param how: How they are asked; what is left after the longest of their grace times is killed.
    """
    started = [service for service in services if service._process is not None]
    grace = max((service.grace for service in started), default=0.0)
    # Listed before the signal: Airflow gives each task a process group of its own, and orphans lose their
    # tie to us.
    family = [member for service in started for member in _family(service.process.pid)]
    _signal(family, how)
    _, left = psutil.wait_procs(family, timeout=grace)
    _signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=grace)
    for service in started:
        service._reap()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would bend a service: loopback unproxied, logs written at once."""
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
    Wait for a condition while the services it needs are alive.

    :param ready: Asked again and again; an ``OSError`` (connection refused, say) counts as no.
    :param what: What is waited for, for the message.
    :param timeout: Seconds.
    :param services: Those without which it can never come true.
    :param every: Seconds between two questions.
    :raises ServiceError: at the time-out or when a service has ended, with the end of its log.
    """
    deadline = time.monotonic() + timeout
    while True:
        with suppress(OSError):
            if ready():
                return
        for service in services:
            if not service.running:
                raise ServiceError(
                    f"{service.name} ended while waiting for {what}. The end of its log, {service.log_path}:\n"
                    f"{service.log_tail()}"
                )
        if time.monotonic() > deadline:
            logs = "\n".join(f"-- {s.name}, {s.log_path}:\n{s.log_tail()}" for s in services)
            raise ServiceError(f"Waited {timeout:.0f} s for {what} in vain.\n{logs}".rstrip())
        time.sleep(every)


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that context managers stop what they started."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dies_with_parent() -> tuple[str, ...]:
    """Return the command prefix that ends a child when we are killed and cannot do it; Linux only."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], how: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)
