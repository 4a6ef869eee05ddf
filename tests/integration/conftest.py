"""The operator as Airflow calls it, in this process, with the sandbox and the S3 server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer
    from airflow_provider_vocalsep.sandbox.server import RunningSandbox


class Bench:
    """Runs tries of one task instance; reads their submits at the vendor and their objects in the bucket."""

    def __init__(self, sandbox: RunningSandbox, s3: S3Client, destination: str) -> None:
        self.sandbox = sandbox
        self.s3 = s3
        self.destination = destination
        self.tries = 0
        self._submits_before = self._submits()

    def _submits(self) -> int:
        return int(self.sandbox.totals()["submits"])

    @property
    def submits(self) -> int:
        """Submits that the vendor accepted and charged since the test began."""
        return self._submits() - self._submits_before

    def track(self, song: int = 0, **changes: Any) -> dict[str, Any]:
        row = self.sandbox.catalogue()[song]
        return {
            **{name: row[name] for name in ("key", "title", "task_id", "audio_id", "duration")},
            **changes,
        }

    def operator(self, **arguments: Any) -> VocalSeparationOperator:
        fast = {"deferrable": False, "poll_interval": 0.2, "timeout": 30}
        return VocalSeparationOperator(
            task_id="separate",
            **{"track": self.track(), "destination": self.destination, **fast, **arguments},
        )

    def context(self, run_id: str = "run") -> dict[str, Any]:
        self.tries += 1
        ti = SimpleNamespace(
            dag_id="dag",
            run_id=run_id,
            task_id="separate",
            map_index=-1,
            try_number=self.tries,
            xcom_push=lambda key, value: None,
        )
        return {"ti": ti}

    def separate(self, *, run_id: str = "run", **arguments: Any) -> dict[str, Any]:
        """Run one try."""
        return self.operator(**arguments).execute(self.context(run_id))

    def refusal(self, error: type[BaseException], **arguments: Any) -> str:
        """Run one try that must fail, and return the message of its error."""
        with pytest.raises(error) as raised:
            self.separate(**arguments)
        assert type(raised.value) is error, "Airflow may retry a subclass differently"
        return str(raised.value)

    def objects(self, destination: str | None = None) -> set[str]:
        """Return the keys of all stems and manifests, relative to the destination."""
        bucket, prefix = parse_s3_uri(destination or self.destination)
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix.strip('/')}/"
        )
        keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
        return {key.removeprefix(f"{prefix.strip('/')}/") for key in keys if "_vocalsep" not in key}

    def history(self) -> list[dict[str, Any]]:
        """Return the history of the only ledger entry at the destination."""
        bucket, prefix = parse_s3_uri(self.destination)
        found = self.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix.strip('/')}/_vocalsep/ledger/")
        (item,) = [item for item in found["Contents"] if item["Key"].endswith(".json")]
        return json.loads(self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())["history"]


@pytest.fixture
def connect(
    sandbox: RunningSandbox, seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Set both connections, with changes."""

    def connect(
        *, aws: dict[str, Any] | None = None, extra: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        vendor = {**sandbox_connection(sandbox), **changes}
        vendor["extra"] = {**vendor["extra"], **(extra or {})}
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(vendor))
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({**seaweed.connection, **(aws or {})}))

    return connect


@pytest.fixture
def bench(sandbox: RunningSandbox, s3: S3Client, destination: str, connect: Callable[..., None]) -> Bench:
    """A task instance with a destination of its own."""
    connect()
    return Bench(sandbox, s3, destination)
