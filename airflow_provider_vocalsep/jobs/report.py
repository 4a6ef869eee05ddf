"""What became of each track of a batch: one JSON Lines file, state of the batch and account of it in one."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_vocalsep.api.errors import VocalSepError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_vocalsep.api.track import Track

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
    :param submits: Submissions that this batch paid for.
    :param before: Somebody else had landed it before this batch.
    :param code: The vendor's code of a failure.
    :param message: What went wrong.
    :param final: A retry would meet the same failure.
    :param manifest: Address of its manifest.
    :param stems: Stems that landed.
    :param bytes: Their bytes.
    """

    model_config = ConfigDict(extra="ignore")

    track: str
    title: str | None = None
    state: RowState = RowState.PLANNED
    vendor_task_id: str | None = None
    attempt_id: str = ""
    submitted_at: datetime | None = None
    until: datetime | None = None
    submits: int = 0
    before: bool = False
    code: int | None = None
    message: str | None = None
    final: bool = False
    manifest: str | None = None
    stems: int = 0
    bytes: int = 0


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
            row = TrackRow(track=track.key, title=track.title)
            old = before.rows.get(track.key) if before else None
            if before and old and not before.concluded and old.state is RowState.FAILED and old.final:
                row = old
            elif before and old and not before.concluded:
                row.submits = old.submits
            rows.append(row)
        return cls(rows)

    def having(self, state: RowState) -> list[TrackRow]:
        """Return the rows in a state."""
        return [row for row in self.rows.values() if row.state is state]

    def totals(self) -> dict[str, int]:
        """Count: tracks by state, those landed before, submits, stems and bytes."""
        counts = {state.value: len(self.having(state)) for state in RowState}
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

        :param about: Fields of the first line: DAG, run, task, map index, try.
        """
        head = {"schema_version": SCHEMA_VERSION, "concluded": self.concluded, **self.totals(), **about}
        lines = [json.dumps(head)]
        lines += [row.model_dump_json(exclude_defaults=True) for row in self.rows.values()]
        return ("\n".join(lines) + "\n").encode()

    @classmethod
    def from_jsonl(cls, text: bytes, *, where: str = "report") -> BatchReport:
        """
        Read the file.

        :raises ReportError: it is not one.
        """
        try:
            head, *lines = text.decode().splitlines()
            rows = [TrackRow.model_validate_json(line) for line in lines]
            return cls(rows, concluded=bool(json.loads(head)["concluded"]))
        except (ValueError, KeyError, TypeError, ValidationError) as e:
            raise ReportError(f"{where} is not a run report: {e}") from e
