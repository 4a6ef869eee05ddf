"""Run reports: what happened to the tracks of a task instance; also the saved state of a batch."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_vocalsep.api.errors import VendorError, VocalSepError
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger.source import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest

#: Version of the file.
SCHEMA_VERSION = 1


class ReportError(VocalSepError):
    """A run report cannot be read."""


class RowState(str, Enum):
    """Where a track stands."""

    #: Not processed yet.
    PLANNED = "planned"
    #: Paid for; the vendor has not finished.
    WAITING = "waiting"
    #: The answer to its submit was lost; its callback is awaited.
    IN_DOUBT = "in_doubt"
    #: Stems and manifest are in the bucket.
    LANDED = "landed"
    #: Its separation or landing failed, for the reason in the message.
    FAILED = "failed"
    #: Not claimed: the credits were used up.
    LEFT = "left"

    @classmethod
    def _missing_(cls, value: object) -> RowState | None:
        """Keep the name of a state that a newer version introduced; it equals no member."""
        if not isinstance(value, str):
            return None
        state = str.__new__(cls, value)
        state._name_ = state._value_ = value
        return state


class TrackRow(BaseModel):
    """
    A track in a run report.

    :param track: Its key.
    :param title: Its title.
    :param state: Where it stands.
    :param vendor_task_id: The vendor task that was paid for it.
    :param attempt_id: The attempt in the ledger.
    :param submitted_at: When it was submitted.
    :param until: Until when a callback is awaited while the submit is in doubt.
    :param calls_back: Whether the vendor calls this task instance back.
    :param submits: Submits that this batch paid for since it was last cleared.
    :param paid: Submits that this task instance paid for in all its tries, by the ledger.
    :param credits: Their credits, without those given back.
    :param before: Whether it had landed before this batch.
    :param code: The vendor's code of a failure.
    :param message: What went wrong.
    :param final: Whether a retry would fail the same way.
    :param manifest: Address of its manifest.
    :param stems: Stems that landed.
    :param bytes: Their bytes.
    :param entry: Address of its ledger entry.
    :param source: Its audio: ``task_id/audio_id``, or the address of an own file without what signs it.
    """

    # Fields of a newer version are kept for the page.
    model_config = ConfigDict(extra="allow")

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

        :param error: The error; its vendor code, or its cause's, is recorded, too.
        :param final: Whether a retry would fail the same way.
        """
        cause = error if isinstance(error, VendorError) else error.__cause__
        self.code = cause.code if isinstance(cause, VendorError) else None
        self.state, self.message, self.final = RowState.FAILED, str(error), final

    def to_json(self) -> str:
        """Return its line of the report, without the fields that have their defaults."""
        return self.model_dump_json(exclude_defaults=True)


class ReportHead(BaseModel):
    """
    The first line of a run report: its task instance and its totals.

    :param schema_version: Version of the file.
    :param concluded: Whether the Airflow task has ended; otherwise Airflow retries it, or it waits.
    :param written_at: When the file was written.
    :param tracks: Tracks in it.
    :param landed: How many of them have landed.
    :param failed: How many of them failed.
    :param left: How many of them were left because the credits were used up.
    :param before: How many of them had landed before.
    :param submits: Submits that this task instance paid for in all its tries.
    :param credits: Their credits, without those given back.
    :param stems: Stems that landed.
    :param bytes: Their bytes.
    :param dag_id: The DAG.
    :param run_id: The DAG run.
    :param task_id: The Airflow task.
    :param map_index: Its map index, -1 when it is not mapped.
    :param try_number: The try that wrote the file.
    :param user: The Airflow user who triggered the DAG run by hand, if Airflow knows.
    :param destination: ``s3://bucket/prefix`` under which the stems land.
    :param separation_type: What the tracks are separated into.
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
    A run report: the rows of a batch, in its order.

    :param rows: One for each track.
    :param concluded: Whether the batch has ended, so that a later run of it retries its failures.
    :param head: Its first line as it was read: the fields of :class:`ReportHead` that its version wrote.
    :param is_understood: Whether this version knows every state and value in it; ``False`` for some reports
        of newer versions.
    """

    def __init__(
        self,
        rows: Iterable[TrackRow],
        *,
        concluded: bool = False,
        head: Mapping[str, Any] | None = None,
        is_understood: bool = True,
    ) -> None:
        self.rows = {row.track: row for row in rows}
        self.concluded = concluded
        self.head = head or {}
        self.is_understood = is_understood

    @classmethod
    def of(cls, tracks: Iterable[Track], before: BatchReport | None = None) -> BatchReport:
        """
        Begin a report.

        :param tracks: The tracks.
        :param before: The report of an earlier try of the same batch. Its final failures are taken over,
            unless the batch had ended: then a user has cleared it to retry them.
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
        rows = self.rows.values()
        return {
            "tracks": len(self.rows),
            **{name: len(self.rows_in(RowState(name))) for name in ("landed", "failed", "left")},
            "before": sum(row.before for row in rows),
            "submits": sum(row.submits for row in rows),
            "stems": sum(row.stems for row in rows),
            "bytes": sum(row.bytes for row in rows),
        }

    def total(self, name: str) -> float | None:
        """Return a total: the head's, else the sum of the rows; ``None`` if the report has neither."""
        total = self.head.get(name)
        if isinstance(total, int | float) and not isinstance(total, bool):
            return float(total)
        values = [getattr(row, name) for row in self.rows.values() if name in row.model_fields_set]
        return float(sum(values)) if values else None

    def to_jsonl(self, **about: Any) -> bytes:
        """
        Write the file: a line about the batch, then one for each track.

        :param about: Other fields of :class:`ReportHead`.
        """
        head = ReportHead(concluded=self.concluded, **{**self.totals(), **self._paid(), **about})
        lines = [head.model_dump_json(exclude_none=True)]
        lines += [row.to_json() for row in self.rows.values()]
        return ("\n".join(lines) + "\n").encode()

    def _paid(self) -> dict[str, float]:
        """Add up the money. Rows with the same audio each have what was paid for it, so it counts once."""
        by_audio: dict[str, list[TrackRow]] = {}
        for row in self.rows.values():
            by_audio.setdefault(row.source or row.track, []).append(row)
        return {
            "submits": sum(
                max(*(row.paid for row in rows), sum(row.submits for row in rows))
                for rows in by_audio.values()
            ),
            "credits": sum(max(row.credits for row in rows) for rows in by_audio.values()),
        }

    @classmethod
    def from_jsonl(cls, text: bytes, *, where: str = "report") -> BatchReport:
        """
        Parse the file, of this version, an older or a newer one.

        :param where: Its address, for the message.
        :raises ReportError: it is not a run report.
        """
        try:
            # Not splitlines(): a title may hold another of Unicode's line ends.
            head, *lines = [json.loads(line) for line in text.decode().split("\n") if line]
            names = [head["dag_id"], head["run_id"], head["task_id"], *(line["track"] for line in lines)]
            if not all(isinstance(name, str) for name in names):
                raise TypeError("a name in it is not text")
            parsed = [_parse_row(line) for line in lines]
        except (ValueError, KeyError, TypeError) as e:
            raise ReportError(f"{where} is not a run report: {type(e).__name__} {e}") from e
        return cls(
            [row for row, _ in parsed],
            concluded=bool(head.get("concluded")),
            head=head,
            is_understood=all(is_understood for _, is_understood in parsed),
        )


def _parse_row(fields: dict[str, Any]) -> tuple[TrackRow, bool]:
    """Parse a row without the values that only a newer version knows; return whether there are none."""
    try:
        row = TrackRow.model_validate(fields)
    except ValidationError as e:
        unknown = {error["loc"][0] for error in e.errors()}
        return TrackRow.model_validate({name: fields[name] for name in fields if name not in unknown}), False
    return row, row.state.name in RowState.__members__
