"""What all tests share: an Airflow home of their own, and the servers, started when first asked for."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before anything imports Airflow: it reads its settings, and writes its home, while it is imported.
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="vocalsep-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer
    from airflow_provider_vocalsep.sandbox.server import RunningSandbox

BUCKET = "stems"

#: Folders of tests, the quick ones first; each but ``unit`` is also a marker.
KINDS = ("unit", "integration", "packaging", "live")

ROOT = Path(__file__).parent


def kind_of(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if kind_of(item) != "unit":
            item.add_marker(kind_of(item))
    items.sort(key=lambda item: KINDS.index(kind_of(item)))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A real S3 server with an empty bucket ``stems``."""
    from airflow_provider_vocalsep.demo.seaweed import running_seaweed

    with running_seaweed(tmp_path_factory.mktemp("seaweed"), [BUCKET], port=None) as server:
        yield server


@pytest.fixture(scope="session")
def s3(seaweed: SeaweedServer) -> S3Client:
    """A client of the S3 server."""
    return seaweed.client()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    """The local vendor in a process of its own; what it separates is kept for the next session."""
    from airflow_provider_vocalsep.demo.sandbox import sandbox_service

    cache = ROOT.parent / ".cache" / "sandbox"
    quick = ["--task-seconds", "0.5", "--submit-rate", "1000/1s", "--credits", "1000000"]
    folder = tmp_path_factory.mktemp("sandbox")
    with sandbox_service(folder, port=None, cache_dir=cache, options=quick) as running:
        yield running


@pytest.fixture
def faulty(sandbox: RunningSandbox) -> Iterator[Callable[..., str]]:
    """Switch faults of the sandbox on, until the end of the test."""
    yield sandbox.set_fault
    sandbox.clear_faults()


@pytest.fixture
def bucket(seaweed: SeaweedServer) -> str:
    """Name of the bucket; tests keep apart by their :func:`prefix`."""
    return seaweed.buckets[0]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix in the bucket that no other test uses, without a slash at the end."""
    return f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower()).strip('-')[:60]}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def destination(bucket: str, prefix: str) -> str:
    """An ``s3://`` address that no other test uses."""
    return f"s3://{bucket}/{prefix}"
