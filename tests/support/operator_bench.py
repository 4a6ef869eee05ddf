"""Operators as Airflow calls them, with a fake vendor and a bucket in the test's process."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timezone
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_vocalsep.client import pace
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, describe_track
from airflow_provider_vocalsep.ledger import LedgerEntry
from airflow_provider_vocalsep.operators.vocal_separation import (
    VocalSeparationBatchOperator,
    VocalSeparationOperator,
)
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_vocalsep.api.errors import VocalSepError
    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.storage.location import StemLocation
    from tests.support.vendor import FakeVendor

BUCKET = "stems"
DESTINATION = f"s3://{BUCKET}/music"


class FakeLander:
    """
    Writes an object for each stem that the vendor offers, and the manifest last; downloads nothing.

    :param store: The object store.
    """

    #: An error to raise instead of landing.
    error: VocalSepError | None = None
    landings = 0

    def __init__(self, store: ObjectStore, **_: object) -> None:
        self.store = store

    def land(
        self,
        task: SeparationTask,
        location: StemLocation,
        *,
        track: Track,
        asked_by: dict[str, Any],
        entry: str | None,
        **_: object,
    ) -> Manifest:
        if FakeLander.error:
            raise FakeLander.error
        FakeLander.landings += 1
        stems = []
        for link in task.present:
            body, key = f"{task.task_id} {link.name}".encode(), location.stem_key(link.name, "mp3")
            tag = self.store.put(location.bucket, key, body, content_type="audio/mpeg")
            stems.append(
                LandedStem(
                    name=link.name,
                    uri=location.uri_of(key),
                    bytes=len(body),
                    sha256=sha256(body).hexdigest(),
                    content_type="audio/mpeg",
                    etag=tag.etag,
                )
            )
        manifest = Manifest(
            track=describe_track(track),
            separation_type=location.separation_type,
            dialect="sunoapi",
            vendor_task_id=task.task_id,
            landed_at=datetime.now(timezone.utc),
            stems=tuple(stems),
            uri=location.manifest_uri,
            asked_by=asked_by,
            entry=entry,
        )
        body = manifest.to_json()
        self.store.put(location.bucket, location.manifest_key, body, content_type="application/json")
        return manifest


class TaskState(dict[str, Any]):
    """Airflow's task state store of one task instance."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


class OperatorBench:
    """
    One task instance, and what its tries leave in ledger, run report, task state and XCom.

    :param store: The object store, with an empty bucket.
    """

    def __init__(self, vendor: FakeVendor, store: ObjectStore) -> None:
        self.vendor = vendor
        self.store = store
        self.task_state = TaskState()
        self.tries = 0
        self.max_tries = 3
        self.xcom: dict[str, Any] = {}

    @contextmanager
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperatorBench]:
        """Replace vendor, object store and lander of the operators."""
        runtime = "airflow_provider_vocalsep.operators._runtime"
        monkeypatch.setattr(VocalSeparationHook, "settings", property(lambda _: self.vendor.settings))
        monkeypatch.setattr(VocalSeparationHook, "client", self.vendor)
        monkeypatch.setattr(f"{runtime}.store_from_connection", self._open_store)
        monkeypatch.setattr(f"{runtime}.Lander", FakeLander)
        yield self
        FakeLander.error, FakeLander.landings = None, 0
        pace._gates.clear()

    def _open_store(self, _: str | None, *, upload_args: dict[str, Any] | None = None) -> ObjectStore:
        return ObjectStore(self.store.client, upload_args=upload_args)

    def context(self, *, new_try: bool = True) -> Any:
        self.tries += new_try
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="run",
            task_id="separate",
            map_index=-1,
            try_number=self.tries,
            max_tries=self.max_tries,
            xcom_push=self._push,
        )
        return {"ti": ti, "task_state_store": self.task_state}

    def _push(self, key: str, value: Any) -> None:
        self.xcom[key] = value

    def separate(self, **arguments: Any) -> VocalSeparationOperator:
        track = {"key": "one", "task_id": "t", "audio_id": "a"}
        return VocalSeparationOperator(
            task_id="separate", **{"track": track, "destination": DESTINATION, **arguments}
        )

    def batch(self, *keys: str, **arguments: Any) -> VocalSeparationBatchOperator:
        tracks = [{"key": key, "task_id": "t", "audio_id": key} for key in keys]
        return VocalSeparationBatchOperator(
            task_id="separate", **{"tracks": tracks, "destination": DESTINATION, "parallel": 1, **arguments}
        )

    def deferral(self, operator: Any, method: str = "execute", **kwargs: Any) -> TaskDeferred:
        """Run one leg of an operator that must defer, and return its deferral."""
        with pytest.raises(TaskDeferred) as deferred:
            getattr(operator, method)(self.context(new_try=method == "execute"), **kwargs)
        return deferred.value

    def resume(self, operator: Any, deferred: TaskDeferred, event: dict[str, Any]) -> Any:
        """Run the next leg of a deferred operator, with an event."""
        resumed = getattr(operator, deferred.method_name)
        return resumed(self.context(new_try=False), event=event, **(deferred.kwargs or {}))

    def rows(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return the head of the run report, and its rows by track."""
        (key,) = [key for key in self.keys() if "/runs/" in key]
        head, *rows = [json.loads(line) for line in self.store.get(BUCKET, key).decode().splitlines()]
        return head, {row["track"]: row for row in rows}

    def entry(self) -> LedgerEntry:
        """Return the only ledger entry."""
        (key,) = [key for key in self.keys() if "/ledger/" in key and key.endswith(".json")]
        return LedgerEntry.model_validate_json(self.store.get(BUCKET, key))

    def events(self) -> list[str]:
        """Return the names of the events in the only ledger entry's history."""
        return [event.event for event in self.entry().history]

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return [found.key for found in self.store.list_objects(BUCKET, "")]

    def manifest(self, uri: str) -> Manifest:
        return Manifest.from_json(self.store.get(*parse_s3_uri(uri)))
