"""What the quick tests share."""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import JSONFileLoader, Loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest test, so that no worker ends with it alone."""
    items.sort(key=lambda item: item.path.name != "test_protocol.py")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Switch off garbage collection while Airflow is imported: almost nothing of it is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep the imported objects, hundreds of thousands, out of the garbage collections of the tests."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the interpreter collect these objects when it ends."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def descriptions_of_services_are_read_once() -> Iterator[None]:
    """Hundreds of tests make a session of their own, and botocore reads megabytes of JSON for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(functools.cache(JSONFileLoader().load_file)))
        for name in ("list_available_services", "load_service_model"):
            patch.setattr(Loader, name, _once_per_search_path(getattr(Loader, name)))
        yield


def _once_per_search_path(read: Callable[..., Any]) -> Callable[..., Any]:
    answers: dict[Any, Any] = {}

    def read_once(loader: Loader, *args: Any, **kwargs: Any) -> Any:
        key = (*loader.search_paths, args, *kwargs.items())
        if key not in answers:
            answers[key] = read(loader, *args, **kwargs)
        return answers[key]

    return read_once


@pytest.fixture(scope="module")
def s3_in_memory() -> Iterator[S3Client]:
    """A client of a store in this process."""
    from tests.support.moto_s3 import moto_s3

    with moto_s3() as client:
        yield client


@pytest.fixture
def s3(s3_in_memory: S3Client) -> S3Client:
    """A client of a store in this process, with an empty bucket ``stems``."""
    from tests.support.moto_s3 import empty_bucket

    empty_bucket(s3_in_memory)
    return s3_in_memory
