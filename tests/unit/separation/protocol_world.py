"""
Everything that takes part in paying for a catalogue once, in memory, one call at a time.

:class:`BatchJob`, :class:`TrackJob`, :class:`Submitter`, :class:`Ledger`, :class:`BatchPoller` and the inbox
are the real code. What they call (store, vendor, bucket, clock) stops before each call until the test chooses
its fate. Each process is a greenlet, so a test chooses every interleaving and every place to die.
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

import tenacity
from botocore.exceptions import ClientError
from greenlet import getcurrent, greenlet

from airflow_provider_vocalsep.api.dialects import get_dialect
from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    SubmitOutcomeUnknownError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import SeparationType, TaskStatus
from airflow_provider_vocalsep.landing.errors import LandingError
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, describe_track
from airflow_provider_vocalsep.ledger import LedgerConflictError, LedgerEntry, LedgerError, MemoryLedgerStore
from airflow_provider_vocalsep.ledger.source import source_of
from airflow_provider_vocalsep.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.storage.location import StemLocation

DIALECT = get_dialect("sunoapi")
DESTINATION = "s3://stems/all"
KIND = SeparationType.SEPARATE_VOCAL

#: The vendor's code of a refusal that is final.
WRONG_ARGUMENT = 422


class Killed(BaseException):
    """The process ends here, as by SIGKILL."""


@dataclass(frozen=True)
class Call:
    """A call that a process is about to make, and its possible fates."""

    name: str
    fates: tuple[str, ...] = ("works",)


def calling(name: str, *fates: str) -> str:
    """Stop before a call; return its fate."""
    here = getcurrent()
    return here.parent.switch(Call(name, ("works", *fates))) if here.parent else "works"


class Process:
    """A process: it runs from call to call, and can be killed before each."""

    def __init__(self, body: Callable[[], None]) -> None:
        self._greenlet = greenlet(body)
        self.at: Call | None = self._greenlet.switch()

    @property
    def alive(self) -> bool:
        return not self._greenlet.dead

    def step(self, fate: str = "works") -> None:
        self.at = self._greenlet.switch(fate)

    def finish(self) -> None:
        while self.alive:
            self.step()

    def kill(self) -> None:
        try:
            self._greenlet.throw(Killed)
        except Killed:
            self.at = None


@dataclass
class Charge:
    """A vendor task that was paid for."""

    vendor_task_id: str
    source: str
    fingerprint: str
    attempt_id: str
    reports_to: str | None
    status: TaskStatus = TaskStatus.PENDING
    code: int | None = None

    @property
    def record(self) -> SeparationTask:
        links = ("vocals", "instrumental") if self.status is TaskStatus.SUCCESS else ()
        stems = tuple(StemLink(name, f"https://vendor/{self.vendor_task_id}/{name}") for name in links)
        return SeparationTask(self.vendor_task_id, self.status, stems, error_code=self.code)


class Vendor:
    """Charges for what it accepts."""

    settings = SimpleNamespace(dialect=DIALECT, account="sunoapi")

    def __init__(
        self,
        charges: dict[str, Charge],
        *,
        attempt_id: Callable[[], str],
        paying: Callable[[Charge], None],
    ) -> None:
        self.charges = charges
        self.attempt_id = attempt_id
        self.paying = paying

    def submit(
        self, track: Track, kind: SeparationType, *, stem_name: str | None = None, callback_url: str
    ) -> str:
        fate = calling(
            "submit", "its answer is lost", "refused for rate", "refused", "unreachable", "lost on its way"
        )
        if fate == "refused for rate":
            raise VendorError("too fast", verdict=Verdict.WAIT, code=430)
        if fate == "refused":
            raise VendorError("wrong", verdict=Verdict.FATAL, code=WRONG_ARGUMENT)
        if fate == "unreachable":
            raise VendorUnreachableError("refused")
        if fate == "lost on its way":
            raise SubmitOutcomeUnknownError("HTML")
        charge = Charge(
            vendor_task_id=f"T{len(self.charges) + 1}",
            source=source_of(track).partition("?")[0],
            fingerprint=urlsplit(track.audio_url or "").query,
            attempt_id=self.attempt_id(),
            reports_to=callback_url.partition("//airflow/")[2] or None,
        )
        self.paying(charge)
        self.charges[charge.vendor_task_id] = charge
        if fate == "its answer is lost":
            raise SubmitOutcomeUnknownError("No answer came.")
        return charge.vendor_task_id

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        if calling("read record", "no answer") == "no answer":
            raise AnswerLostError("No answer came.")
        return self.charges[vendor_task_id].record


class Store(MemoryLedgerStore):
    """A store whose writes may fail, lose their answer, or be sent twice by the client."""

    def __init__(self, written: Callable[[LedgerEntry | None, LedgerEntry], None]) -> None:
        super().__init__()
        self.written = written

    def read(self, identity: Any) -> tuple[LedgerEntry | None, str | None]:
        if calling("read entry", "fails") == "fails":
            raise LedgerError("503 SlowDown")
        return super().read(identity)

    def write(self, identity: Any, entry: LedgerEntry, version: str | None) -> str | None:
        fate = calling("write entry", "fails", "its answer is lost", "it is sent twice")
        if fate == "fails":
            raise LedgerError("503 SlowDown")
        before = super().read(identity)[0]
        version = super().write(identity, entry, version)
        self.written(before, entry)
        if fate == "its answer is lost":
            raise LedgerError("connection reset")
        if fate == "it is sent twice":
            raise LedgerConflictError("412: its own first copy is in the way")
        return version

    def entries(self) -> Iterator[LedgerEntry]:
        for body, _ in self._entries.values():
            yield LedgerEntry.model_validate_json(body)


class Bucket:
    """
    Objects, by key, and own files; the calls of boto3's client that reading what landed and preparing own
    files make.

    :param versions: Version of each own file, by its key.
    """

    def __init__(self, versions: dict[str, str]) -> None:
        self.objects: dict[str, bytes] = {}
        self.versions = versions

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        calling("get object")
        body = self._body(Key, "GetObject")
        return {"Body": io.BytesIO(body), "ETag": f'"{_digest(body)}"'}

    def head_object(self, *, Bucket: str, Key: str, **_: str) -> dict[str, Any]:
        if Key in self.versions:
            calling("read the source")
            return {"ContentLength": 9, "ETag": f'"{self.versions[Key]}"'}
        body = self._body(Key, "HeadObject")
        return {"ContentLength": len(body), "ETag": f'"{_digest(body)}"', "Metadata": {}}

    def generate_presigned_url(self, _: str, *, Params: dict[str, str], ExpiresIn: int) -> str:
        return f"s3://{Params['Bucket']}/{Params['Key']}?{self.versions[Params['Key']]}"

    def put(self, key: str, body: bytes, error: type[Exception] = StorageError) -> None:
        fate = calling("put object", "fails", "its answer is lost")
        if fate != "fails":
            self.objects[key] = body
        if fate != "works":
            raise error(f"{key}: {fate}")

    def _body(self, key: str, call: str) -> bytes:
        if key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, call)
        return self.objects[key]


class Lander:
    """Lands the stems of a task one by one, the manifest last."""

    def __init__(self, bucket: Bucket, charges: dict[str, Charge], now: Callable[[], datetime]) -> None:
        self.bucket = bucket
        self.charges = charges
        self.now = now

    def land(
        self, task: SeparationTask, place: StemLocation, *, track: Track, asked_by: dict[str, Any], **_: Any
    ) -> Manifest:
        stems = []
        for link in task.present:
            body = stem_of(self.charges[task.task_id], link.name)
            key = f"{place.prefix}/{link.name}.mp3"
            if self.bucket.objects.get(key) != body:
                self.bucket.put(key, body, lambda why: LandingError(why, failures={}, landed=()))
            stems.append(
                LandedStem(
                    name=link.name,
                    uri=place.uri_of(key),
                    bytes=len(body),
                    sha256=_digest(body),
                    content_type="audio/mpeg",
                    etag=_digest(body),
                )
            )
        manifest = Manifest(
            track=describe_track(track),
            separation_type=KIND,
            dialect="sunoapi",
            vendor_task_id=task.task_id,
            landed_at=self.now(),
            stems=tuple(stems),
            uri=place.manifest_uri,
            asked_by=asked_by,
        )
        self.bucket.put(
            place.manifest_key, manifest.to_json(), lambda why: LandingError(why, failures={}, landed=())
        )
        return manifest


def stem_of(charge: Charge, name: str) -> bytes:
    """Return the stem that the vendor makes of its audio."""
    return f"{charge.source}@{charge.fingerprint}:{name}".encode()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Clock:
    """The time of all processes."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, tzinfo=timezone.utc))

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + timedelta(seconds=seconds)
        calling("sleep")
        self.now = max(self.now, until)

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class _InTurn:
    """Replaces a thread pool: runs the tracks of a batch one after the other."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> _InTurn:
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(map)


@contextmanager
def no_threads_and_no_pauses() -> Iterator[None]:
    """Run the tracks of a batch in turn, and retry lost swaps at once."""
    retrying = partial(tenacity.Retrying, sleep=lambda _: None)
    with (
        mock.patch("airflow_provider_vocalsep.separation.batch.ThreadPoolExecutor", _InTurn),
        mock.patch("airflow_provider_vocalsep.ledger.ledger.Retrying", retrying),
    ):
        yield


def jsonable(value: Any) -> Any:
    """Return a value as a database returns it."""
    return json.loads(json.dumps(value))
