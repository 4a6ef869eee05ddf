from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_vocalsep.landing import download
from tests.support.landing_bench import LandingBench
from tests.support.stem_host import StemHost, running_stem_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def _host() -> Iterator[StemHost]:
    with running_stem_host() as host:
        yield host


@pytest.fixture
def host(_host: StemHost) -> StemHost:
    """A download host without files."""
    _host.reset()
    return _host


@pytest.fixture
def bench(s3: S3Client, host: StemHost) -> LandingBench:
    return LandingBench(s3, host)


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads give up after two failed requests."""
    monkeypatch.setattr(download, "TRIES", 2)
