"""The page's application as Airflow mounts it, with Airflow's own tokens and an auth manager of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.storage.translation import ON_A_PAGE
from airflow_provider_vocalsep.ui import app as page
from airflow_provider_vocalsep.ui.destinations import Destination
from airflow_provider_vocalsep.ui.index import RunIndex
from airflow_provider_vocalsep.ui.run_index import RunIndexService, run_index_service
from tests.support.sample_bucket import LOCATION, SampleBucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


class PickyAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager, except that only `insider` may read DAGs that begin with `secret`."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None
    ) -> bool:
        hidden = details is None or details.id is None or details.id.startswith("secret")
        allowed = super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
        return allowed and (not hidden or user.username == "insider")


@pytest.fixture(scope="session")
def database() -> Any:
    """Airflow's own tables, empty."""
    from airflow import settings
    from airflow.models.base import Base
    from airflow.utils.db import import_all_models

    import_all_models()
    Base.metadata.create_all(settings.engine)
    return settings.engine


@pytest.fixture
def auth(database: Any, monkeypatch: pytest.MonkeyPatch) -> PickyAuthManager:
    """The auth manager of this process."""
    manager = PickyAuthManager()
    monkeypatch.setattr(airflow_app._AuthManagerState, "instance", manager)
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-of-the-unit-tests-" + "0" * 64)
    for cached in (PickyAuthManager._get_token_signer, PickyAuthManager._get_token_validator):
        cached.__func__.cache_clear()  # type: ignore[attr-defined]
    return manager


@pytest.fixture
def sample(s3: S3Client) -> SampleBucket:
    """A destination without a history."""
    return SampleBucket(s3)


@pytest.fixture
def store(s3: S3Client) -> ObjectStore:
    """The object store, with the messages of the page."""
    return ObjectStore(s3, advice=ON_A_PAGE)


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    return RunIndex(tmp_path / "runs.sqlite")


class OneDestinationService(RunIndexService):
    """
    A service whose destinations the test sets.

    :param store: Their object store.
    """

    def __init__(self, index: RunIndex, store: ObjectStore) -> None:
        super().__init__(index)
        self.found = [Destination(LOCATION, "aws_default", {LOCATION.ledger})]
        self.object_store = store

    def _find_destinations(self) -> list[Destination]:
        return self.found

    def store(self, destination: Destination) -> ObjectStore:
        return self.object_store


@pytest.fixture
def service(index: RunIndex, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> OneDestinationService:
    """A service with one destination, whose routes wait until a refresh has ended."""
    monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index._FIRST_WAIT", 10)
    monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index._WAIT", 10)
    monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index.REFRESH_INTERVAL", 0)
    monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index._PAUSE_FACTOR", 0)
    return OneDestinationService(index, store)


@pytest.fixture
def ask(auth: PickyAuthManager, service: RunIndexService) -> Iterator[Any]:
    """Request a route as a user, or without one."""
    page.app.dependency_overrides[run_index_service] = lambda: service

    def ask(
        path: str, user: str | None = "viewer", *, headers: Any = None, method: str = "GET", **query: Any
    ) -> httpx.Response:
        import asyncio

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(page.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as http:
                return await http.request(method, path, params=query, headers={**cookie, **(headers or {})})

        cookie = {}
        if user:
            token = auth.generate_jwt(SimpleAuthManagerUser(username=user, role="viewer", teams=None))
            cookie = {"cookie": f"_token={token}"}
        return asyncio.run(request())

    yield ask
    page.app.dependency_overrides.clear()
