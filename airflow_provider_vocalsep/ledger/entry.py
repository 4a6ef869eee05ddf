"""The ledger entry of one paid separation: JSON that is readable without Airflow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger.source import source_of

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.track import Track

#: Version of the JSON that :class:`LedgerEntry` writes. It changes when a field changes its meaning, not when
#: one is added.
SCHEMA_VERSION = 1


class EntryState(str, Enum):
    """State of a separation."""

    #: An attempt is about to submit, or has submitted and its answer is not recorded.
    CLAIMED = "claimed"
    #: The vendor refused the last submit for now and nothing was paid. Anyone may claim the separation.
    REFUSED = "refused"
    #: The vendor accepted and charged it; its task id is known.
    SUBMITTED = "submitted"
    #: The vendor has finished; the stems have not all landed yet.
    SEPARATED = "separated"
    #: The stems and their manifest are in the bucket.
    LANDED = "landed"
    #: The last attempt failed. Anyone may claim the separation.
    FAILED = "failed"


class _EntryModel(BaseModel):
    """A part of an entry. Fields that a newer version added survive a change by this one."""

    model_config = ConfigDict(extra="allow")


class TaskInstanceRef(_EntryModel):
    """
    The Airflow task instance that asks for a separation, in one of its tries.

    :param dag_id: Its DAG.
    :param run_id: Its DAG run.
    :param task_id: Its Airflow task.
    :param map_index: Its map index, -1 when it is not mapped.
    :param try_number: Its try, from 1.
    :param user: The Airflow user who triggered its DAG run; ``None`` for a run that no user triggered, and
        before Airflow 3.2, which does not provide it.
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
        """The task instance without its try."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}{mapped} try {self.try_number}"


@dataclass(frozen=True)
class Identity:
    """
    Identity of a separation. It is paid for exactly once.

    :param account: Name of the vendor account that pays.
    :param source: The audio: ``task_id/audio_id`` of a generated track, or the URL of an own file.
    :param stem_name: The stem requested with ``split_stem_advanced``.
    """

    account: str
    source: str
    separation_type: SeparationType
    stem_name: str | None = None

    @classmethod
    def of(
        cls, track: Track, *, account: str, separation_type: SeparationType, stem_name: str | None
    ) -> Identity:
        """Return the identity of a track's separation; a renamed track keeps it and is not paid again."""
        return cls(account, source_of(track), separation_type, stem_name)

    @property
    def digest(self) -> str:
        """SHA-256 in hex; the name of the ledger object."""
        parts = [self.account, self.source, self.separation_type.value, self.stem_name or ""]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Outcome(_EntryModel):
    """
    How an attempt failed.

    :param at: When it failed.
    :param verdict: What the vendor's code means, see :class:`~airflow_provider_vocalsep.api.errors.Verdict`.
    :param code: The vendor's code.
    :param message: Message of the error that the Airflow task raised.
    :param final: Airflow does not retry the task, so a person or a new DAG run makes the next attempt.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    verdict: Verdict
    code: int | None = None
    message: str = ""
    final: bool = False


class Attempt(_EntryModel):
    """
    One submit, from its claim to its end.

    :param attempt_id: Random id, written before the submit is sent.
    :param asked_by: The task instance that sends the submit.
    :param fingerprint: Version of the audio when it was claimed; empty for generated tracks, which never
        change.
    :param claimed_at: When the claim was written; renewed right before each time the submit is sent.
    :param vendor_task_id: The vendor's answer; ``None`` while it is unknown.
    :param submitted_at: When the answer was recorded.
    :param outcome: Set when the attempt failed.
    :param calls_back: Whether the submit carries a callback URL that reports to ``asked_by``.
    """

    attempt_id: str
    asked_by: TaskInstanceRef
    fingerprint: str = ""
    claimed_at: datetime
    vendor_task_id: str | None = None
    submitted_at: datetime | None = None
    outcome: Outcome | None = None
    calls_back: bool = False


class Landing(_EntryModel):
    """
    One destination at which the stems landed.

    :param at: When the manifest was written.
    :param vendor_task_id: The vendor task that the stems come from.
    :param stems: Number of stems.
    :param bytes: Total size of the stems.
    """

    at: datetime
    vendor_task_id: str
    stems: int
    bytes: int


class File(_EntryModel):
    """
    A stem as it landed.

    :param name: Name of the stem.
    :param uri: URI of its object.
    :param bytes: Its size.
    :param sha256: SHA-256 of its bytes, in hex.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    bytes: int
    sha256: str


class Event(_EntryModel):
    """
    One event of the history.

    :param at: When it happened first.
    :param event: Name of the event.
    :param by: The task instance that caused it; the latest one when ``count`` is above 1.
    :param attempt_id: The attempt that it belongs to.
    :param vendor_task_id: The vendor task that it belongs to.
    :param code: The vendor's code.
    :param message: What happened, for people.
    :param count: How many times in a row it happened.
    :param last_at: When it happened last.
    :param credits: Credits that it cost, by the vendor's price list; negative for a refund.
    :param status: The vendor's status of its task.
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


class LedgerEntry(_EntryModel):
    """
    Everything known about one paid separation.

    :param schema_version: Version of this JSON.
    :param account: Name of the vendor account that pays.
    :param source: The audio: ``task_id/audio_id`` of a generated track, or the URL of an own file.
    :param separation_type: The kind of separation.
    :param stem_name: The stem requested with ``split_stem_advanced``.
    :param track_key: Key of the track in the first request.
    :param title: Title of the track, for people.
    :param state: State of the separation.
    :param attempts: Every submit, the latest last.
    :param landings: Where the stems are, by manifest URI.
    :param history: What happened, oldest first; no event is ever removed.
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
        """The attempts whose submit the vendor may have accepted and charged: no answer is recorded."""
        return [a for a in self.attempts if a.vendor_task_id is None and a.outcome is None]

    def latest_attempt(self, fingerprint: str) -> Attempt | None:
        """Return the latest attempt at a version of the audio."""
        return next((a for a in reversed(self.attempts) if a.fingerprint == fingerprint), None)

    def attempt(self, attempt_id: str) -> Attempt | None:
        """Return an attempt by its id."""
        return next((a for a in self.attempts if a.attempt_id == attempt_id), None)

    def to_json(self) -> bytes:
        """Serialise the entry for the store."""
        return self.model_dump_json(indent=1, exclude_none=True).encode()
