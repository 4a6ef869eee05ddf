"""What the ledger knows about one paid separation. Written as JSON, readable without Airflow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.track import Track

#: Version of the JSON that :class:`LedgerEntry` writes. A field that is added leaves it; one that changes its meaning does not.
SCHEMA_VERSION = 1

#: Query parameters that only sign a link; the file behind it is the same without them.
#: S3 SigV4 and SigV2, CloudFront and Google Cloud Storage, from each service's page on signed URLs.
_SIGNING_PARAMETERS = ("x-amz-", "x-goog-", "awsaccesskeyid", "signature", "expires", "key-pair-id", "policy")


class EntryState(str, Enum):
    """Where a separation stands."""

    #: An attempt is about to submit, or did and has not heard the answer.
    CLAIMED = "claimed"
    #: The vendor accepted and charged it; its task id is known.
    SUBMITTED = "submitted"
    #: The vendor is done; the stems are not all landed yet.
    SEPARATED = "separated"
    #: The stems and their manifest are in the bucket.
    LANDED = "landed"
    #: The last attempt came to nothing. It may be claimed anew.
    FAILED = "failed"


class _Kept(BaseModel):
    """A part of an entry; what a newer version wrote into it survives a change by this one."""

    model_config = ConfigDict(extra="allow")


class TaskInstanceRef(_Kept):
    """
    Who asked: the Airflow task instance, as far as there is one.

    :param dag_id: Its DAG.
    :param run_id: Its DAG run.
    :param task_id: Its Airflow task.
    :param map_index: Its map index, -1 when it is not mapped.
    :param try_number: Its try, from 1.
    :param user: The Airflow user who triggered its DAG run; ``None`` for a run that nobody triggered by hand, and where
        Airflow does not tell (before 3.2).
    """

    model_config = ConfigDict(frozen=True)

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0
    user: str | None = None

    @property
    def instance(self) -> tuple[str, str, str, int]:
        """The task instance, whichever try it is in."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}{mapped} try {self.try_number}"


@dataclass(frozen=True)
class Identity:
    """
    What is paid for exactly once.

    :param account: Name of the vendor account that pays.
    :param source: The audio: ``task_id/audio_id`` of a generated track, or the address of an own file.
    :param separation_type: What it is separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    """

    account: str
    source: str
    separation_type: SeparationType
    stem_name: str | None = None

    @classmethod
    def of(
        cls, track: Track, *, account: str, separation_type: SeparationType, stem_name: str | None
    ) -> Identity:
        """Identify the separation of ``track``, by its audio: a renamed track is not paid for again."""
        return cls(account, source_of(track), separation_type, stem_name)

    @property
    def digest(self) -> str:
        """SHA-256 in hex; names the ledger object."""
        parts = [self.account, self.source, self.separation_type.value, self.stem_name or ""]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def source_of(track: Track) -> str:
    """Name the audio of a track in a way that survives a new presigned link to the same file."""
    if track.audio_url is None:
        return f"{track.task_id}/{track.audio_id}"
    parts = urlsplit(track.audio_url)
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not name.lower().startswith(_SIGNING_PARAMETERS)
    ]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


class Outcome(_Kept):
    """
    How an attempt came to nothing.

    :param at: When.
    :param verdict: What the vendor's code means, see :class:`~airflow_provider_vocalsep.api.errors.Verdict`.
    :param code: The vendor's code.
    :param message: What happened, in the words of the error that the Airflow task showed.
    :param final: Airflow was told not to retry, so whoever claims next was sent by a person or a new run.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    verdict: Verdict
    code: int | None = None
    message: str = ""
    final: bool = False


class Attempt(_Kept):
    """
    One submit, from the intent to its end.

    :param attempt_id: Random id, written before the submit is sent.
    :param asked_by: Who sends it.
    :param fingerprint: State of the audio when it was claimed; empty for generated tracks, which never change.
    :param claimed_at: When the intent was written, renewed right before each time the submit is sent.
    :param vendor_task_id: The vendor's answer; ``None`` while it is unknown.
    :param submitted_at: When the answer was recorded.
    :param outcome: Set when the attempt came to nothing.
    :param calls_back: Its submit carries an address that reports back to ``asked_by``.
    """

    attempt_id: str
    asked_by: TaskInstanceRef
    fingerprint: str = ""
    claimed_at: datetime
    vendor_task_id: str | None = None
    submitted_at: datetime | None = None
    outcome: Outcome | None = None
    calls_back: bool = False


class Landing(_Kept):
    """
    One place where the stems landed.

    :param at: When the manifest was written.
    :param vendor_task_id: The vendor task that they came from.
    :param stems: How many.
    :param bytes: Their size together.
    """

    at: datetime
    vendor_task_id: str
    stems: int
    bytes: int


class File(_Kept):
    """
    A stem that landed, as it was then.

    :param name: Name of the stem.
    :param uri: Where it was put.
    :param bytes: Its size.
    :param sha256: SHA-256 of its bytes, hex.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    bytes: int
    sha256: str


class Event(_Kept):
    """
    One line of the history.

    :param at: When it happened first.
    :param event: What happened, in one word.
    :param by: Who was at it, the latest when ``count`` is above 1.
    :param attempt_id: The attempt it belongs to.
    :param vendor_task_id: The vendor task it belongs to.
    :param code: The vendor's code.
    :param message: In words.
    :param count: How many times in a row.
    :param last_at: When it happened last.
    :param credits: Credits that it cost, by the vendor's price list; below zero for what was given back.
    :param status: The vendor's word for how its task stands.
    :param files: The stems that landed.
    """

    at: datetime
    event: str
    by: TaskInstanceRef | None = None
    attempt_id: str | None = None
    vendor_task_id: str | None = None
    code: int | None = None
    message: str | None = None
    count: int = 1
    last_at: datetime | None = None
    credits: float | None = None
    status: str | None = None
    files: tuple[File, ...] | None = None


class LedgerEntry(_Kept):
    """
    Everything known about one paid separation.

    :param schema_version: Version of this JSON.
    :param account: Name of the vendor account that pays.
    :param source: The audio: ``task_id/audio_id`` of a generated track, or the address of an own file.
    :param separation_type: What it is separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param track_key: The key under which the track was asked for first.
    :param title: Its title, for people.
    :param state: Where it stands.
    :param attempts: Every submit, the latest last.
    :param landings: Where the stems are, by manifest URI.
    :param history: What happened, oldest first; nothing is ever taken out of it.
    """

    schema_version: int = SCHEMA_VERSION
    account: str
    source: str
    separation_type: SeparationType
    stem_name: str | None = None
    track_key: str
    title: str | None = None
    state: EntryState
    attempts: list[Attempt] = Field(min_length=1)
    landings: dict[str, Landing] = Field(default_factory=dict)
    history: list[Event] = Field(default_factory=list)

    @property
    def current(self) -> Attempt:
        """The latest attempt."""
        return self.attempts[-1]

    @property
    def unanswered(self) -> list[Attempt]:
        """The attempts of which it is not known whether the vendor took, and charged, them."""
        return [a for a in self.attempts if a.vendor_task_id is None and a.outcome is None]

    def holder(self, fingerprint: str) -> Attempt | None:
        """The latest attempt at this version of the audio."""
        return next((a for a in reversed(self.attempts) if a.fingerprint == fingerprint), None)

    def attempt(self, attempt_id: str) -> Attempt | None:
        """Find an attempt by its id."""
        return next((a for a in self.attempts if a.attempt_id == attempt_id), None)

    def to_json(self) -> bytes:
        """Serialise for the store."""
        return self.model_dump_json(indent=1, exclude_none=True).encode()
