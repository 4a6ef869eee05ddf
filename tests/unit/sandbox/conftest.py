"""Sandboxes with tiny stems, in threads of the test's process."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from sandbox_caller import Caller

from airflow_provider_vocalsep.sandbox.server import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def stem_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stems")


@pytest.fixture(scope="session")
def in_background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Run a function while other tests run: a sandbox takes 0.2 seconds to stop."""
    submitted = []
    with ThreadPoolExecutor(8) as pool:
        yield lambda work: submitted.append(pool.submit(work))
    for future in submitted:
        future.result()


@pytest.fixture
def calling(stem_cache: Path, in_background: Callable[..., None]) -> Iterator[Callable[..., Caller]]:
    """Start a sandbox with the given options, and return a caller of it."""
    running = ExitStack()

    def start(**options: Any) -> Caller:
        quick = {"tiny_stems": True, "task_seconds": 0, "cache_dir": stem_cache, "callback_backoff": 0.005}
        sandbox = running.enter_context(running_sandbox(in_process=True, **{**quick, **options}))
        caller = Caller(sandbox)
        running.enter_context(caller.session)
        return caller

    yield start
    in_background(running.close)


@pytest.fixture
def vendor(calling: Callable[..., Caller]) -> Caller:
    """A sandbox with the default options."""
    return calling()


@pytest.fixture(params=["sunoapi", "kie"])
def dialect(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def either(calling: Callable[..., Caller], dialect: str) -> Caller:
    """A sandbox of either dialect."""
    return calling(dialect=dialect)


@pytest.fixture
def free_port() -> int:
    """A port of loopback on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
