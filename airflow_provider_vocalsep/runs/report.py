"""What became of the tracks of a task instance: one JSON Lines file, state of a batch and account of it in one."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_vocalsep.api.errors import VendorError, VocalSepError
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger.entry import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest

#: Version of the file.
SCHEMA_VERSION = 1


class ReportError(VocalSepError):
    """A run report cannot be read."""


class RowState(str, Enum):
    """Where a track stands."""

    #: Not looked at yet.
    PLANNED = "planned"
    #: Paid for; the vendor is at it.
    WAITING = "waiting"
    #: The answer to its submit was lost; its callback is awaited.
    IN_DOUBT = "in_doubt"
    #: Stems and manifest are in the bucket.
    LANDED = "landed"
    #: It came to nothing; the message says why.
    FAILED = "failed"
    #: Not claimed: the credits were used up.
    LEFT = "left"


class TrackRow(BaseModel):
    """
    One track.

    :param track: Its key.
    :param title: Its title.
    :param state: Where it stands.
    :param vendor_task_id: The vendor task that was paid for it.
    :param attempt_id: The attempt in the ledger.
    :param submitted_at: When it was submitted.
    :param until: Until when a callback is awaited, in doubt.
    :param calls_back: The vendor reports its end to this task instance, not to another or nobody.
    :param submits: Submissions that this batch paid for since it was last cleared.
    :param paid: Submissions that this task instance paid for in all its tries, by the ledger.
    :param credits: Their credits, without those given back.
    :param before: Somebody else had landed it before this batch.
    :param code: The vendor's code of a failure.
    :param message: What went wrong.
    :param final: A retry would meet the same failure.
    :param manifest: Address of its manifest.
    :param stems: Stems that landed.
    :param bytes: Their bytes.
    :param entry: Address of its ledger entry.
    :param source: Its audio: ``task_id/audio_id``, or the address of an own file without what signs it.
    """

    model_config = ConfigDict(extra="ignore")

    track: str
    title: str | None = None
    state: RowState = RowState.PLANNED
    vendor_task_id: str | None = None
    attempt_id: str = ""
    submitted_at: datetime | None = None
    until: datetime | None = None
    calls_back: bool = False
    submits: int = 0
    paid: int = 0
    credits: float = 0.0
    before: bool = False
    code: int | None = None
    message: str | None = None
    final: bool = False
    manifest: str | None = None
    stems: int = 0
    bytes: int = 0
    entry: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, track: Track) -> TrackRow:
        """Return the row of a track that is not looked at yet."""
        return cls(track=track.key, title=track.title, source=source_of(track))

    def record_submitted(
        self,
        vendor_task_id: str,
        attempt_id: str,
        submitted_at: datetime,
        *,
        submitted_now: bool = False,
        calls_back: bool = False,
    ) -> None:
        """Record that it is paid for, and waited for."""
        self.state, self.message, self.until = RowState.WAITING, None, None
        self.vendor_task_id, self.attempt_id, self.submitted_at = vendor_task_id, attempt_id, submitted_at
        self.calls_back = calls_back
        self.submits += submitted_now

    def record_in_doubt(self, attempt_id: str, until: datetime, message: str) -> None:
        """Record that the answer to its submit was lost and its callback is awaited."""
        self.state, self.message, self.until = RowState.IN_DOUBT, message, until
        self.attempt_id = attempt_id

    def record_landed(self, manifest: Manifest, *, before: bool) -> None:
        """
        Record that its stems are in the bucket.

        :param before: Whether another task instance landed it.
        """
        self.state, self.before, self.message = RowState.LANDED, before, None
        self.vendor_task_id, self.manifest = manifest.vendor_task_id, manifest.uri
        self.stems, self.bytes = len(manifest.stems), sum(stem.bytes for stem in manifest.stems)

    def record_failed(self, error: BaseException, *, final: bool) -> None:
        """
        Record a failure.

        :param error: What went wrong, or what Airflow was told of it.
        :param final: Whether a retry would meet the same failure.
        """
        cause = error if isinstance(error, VendorError) else error.__cause__
        self.code = cause.code if isinstance(cause, VendorError) else None
        self.state, self.message, self.final = RowState.FAILED, str(error), final


class ReportHead(BaseModel):
    """
    The first line of a run report: whose it is, and its totals.

    :param schema_version: Version of the file.
    :param concluded: Whether the task has ended; Airflow retries it, or it waits, otherwise.
    :param written_at: When the file was written.
    :param tracks: Tracks in it.
    :param landed: How many of them have landed.
    :param failed: How many came to nothing.
    :param left: How many were left because the credits were used up.
    :param before: How many had landed before.
    :param submits: Submissions that this task instance paid for in all its tries.
    :param credits: Their credits, without those given back.
    :param stems: Stems that landed.
    :param bytes: Their bytes.
    :param dag_id: The DAG.
    :param run_id: The DAG run.
    :param task_id: The Airflow task.
    :param map_index: Its map index, -1 when it is not mapped.
    :param try_number: The try that wrote the file.
    :param user: The Airflow user who triggered the run by hand, where Airflow tells.
    :param destination: ``s3://bucket/prefix`` under which the stems land.
    :param separation_type: What was asked for.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA_VERSION
    concluded: bool
    written_at: datetime | None = None
    tracks: int
    landed: int
    failed: int
    left: int
    before: int
    submits: int
    credits: float = 0.0
    stems: int
    bytes: int
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0
    user: str | None = None
    destination: str | None = None
    separation_type: SeparationType | None = None
    stem_name: str | None = None


class BatchReport:
    """
    The rows of a batch, in its order.

    :param rows: One a track.
    :param concluded: Whether the batch has ended, so that whoever runs it again wants its failures tried again.
    """

    def __init__(self, rows: Iterable[TrackRow], *, concluded: bool = False) -> None:
        self.rows = {row.track: row for row in rows}
        self.concluded = concluded

    @classmethod
    def of(cls, tracks: Iterable[Track], before: BatchReport | None = None) -> BatchReport:
        """
        Begin a report.

        :param tracks: The tracks.
        :param before: What a try of the same batch left. Failures that no retry mends are taken over from it, unless it
            had ended: then somebody has cleared the batch to try them again.
        """
        rows = []
        for track in tracks:
            row = TrackRow.of(track)
            old = before.rows.get(track.key) if before else None
            if before and old and not before.concluded and old.state is RowState.FAILED and old.final:
                row = old
            elif before and old and not before.concluded:
                row.submits = old.submits
            if old:
                row.paid, row.credits = old.paid, old.credits
            rows.append(row)
        return cls(rows)

    def rows_in(self, state: RowState) -> list[TrackRow]:
        """Return the rows in a state."""
        return [row for row in self.rows.values() if row.state is state]

    def totals(self) -> dict[str, int]:
        """Count: tracks by state, those landed before, submits, stems and bytes."""
        counts = {state.value: len(self.rows_in(state)) for state in RowState}
        rows = self.rows.values()
        return {
            "tracks": len(self.rows),
            **{name: counts[name] for name in ("landed", "failed", "left")},
            "before": sum(row.before for row in rows),
            "submits": sum(row.submits for row in rows),
            "stems": sum(row.stems for row in rows),
            "bytes": sum(row.bytes for row in rows),
        }

    def to_jsonl(self, **about: Any) -> bytes:
        """
        Write the file: a line about the batch, then one a track.

        :param about: Other fields of :class:`ReportHead`.
        """
        head = ReportHead(concluded=self.concluded, **{**self.totals(), **self._paid(), **about})
        lines = [head.model_dump_json(exclude_none=True)]
        lines += [row.model_dump_json(exclude_defaults=True) for row in self.rows.values()]
        return ("\n".join(lines) + "\n").encode()

    def _paid(self) -> dict[str, float]:
        """Add up the money: once for rows with the same audio, each of which says what was paid for it."""
        same: dict[str, list[TrackRow]] = {}
        for row in self.rows.values():
            same.setdefault(row.source or row.track, []).append(row)
        return {
            "submits": sum(
                max(*(row.paid for row in rows), sum(row.submits for row in rows)) for rows in same.values()
            ),
            "credits": sum(max(row.credits for row in rows) for rows in same.values()),
        }

    @classmethod
    def from_jsonl(cls, text: bytes, *, where: str = "report") -> BatchReport:
        """
        Read the file.

        :raises ReportError: it is not one.
        """
        try:
            # Not splitlines(): a title may hold another of Unicode's line ends.
            head, *lines = text.decode().removesuffix("\n").split("\n")
            rows = [TrackRow.model_validate_json(line) for line in lines]
            return cls(rows, concluded=bool(json.loads(head)["concluded"]))
        except (ValueError, KeyError, TypeError, ValidationError) as e:
            raise ReportError(f"{where} is not a run report: {e}") from e
