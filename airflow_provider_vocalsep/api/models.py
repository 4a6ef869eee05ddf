"""The vendor's answers, typed. All are immutable and hold nothing that the vendor did not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class StemLink:
    """
    One stem as the vendor offers it.

    :param name: Name of the stem's object without extension: a :class:`Stem` value, or for
        ``split_stem_advanced`` the slug of the stem name with ``_extract`` or ``_remove``.
    :param url: Where to download it, percent-encoded; ``None`` when the vendor says that the track has no such stem.
    :param audio_id: The vendor's id of the stem, if it gave one.
    :param duration: Length in seconds, if the vendor gave it.
    """

    name: str
    url: str | None
    audio_id: str | None = None
    duration: float | None = None


@dataclass(frozen=True)
class SeparationTask:
    """
    The vendor's record of one separation (``GET /api/v1/vocal-removal/record-info``).

    :param task_id: The vendor's task id, 32 hex characters.
    :param status: Where the task stands.
    :param stems: Every stem the record names, filled or empty, in the order of :class:`Stem`.
    :param music_id: Id of the source track; ``None`` for an own file.
    :param created_at: When the vendor accepted the task (UTC).
    :param completed_at: When it ended (UTC).
    :param error_code: The vendor's code of a failed task.
    :param error_message: The vendor's words about a failed task.
    """

    task_id: str
    status: TaskStatus
    stems: tuple[StemLink, ...] = ()
    music_id: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    error_code: int | None = None
    error_message: str | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def present(self) -> tuple[StemLink, ...]:
        """The stems that can be downloaded."""
        return tuple(stem for stem in self.stems if stem.url)

    @property
    def finished(self) -> bool:
        """Whether the stems are there, however the vendor words its state."""
        return self.status is TaskStatus.SUCCESS or (
            self.status is TaskStatus.CALLBACK_EXCEPTION and bool(self.present)
        )

    @property
    def failed(self) -> bool:
        """Whether the vendor gave the task up."""
        return self.status in (TaskStatus.CREATE_TASK_FAILED, TaskStatus.GENERATE_AUDIO_FAILED) or (
            self.status is TaskStatus.CALLBACK_EXCEPTION and not self.present
        )


@dataclass(frozen=True)
class Callback:
    """
    The body of one callback delivery. A hint only: stem links are always taken from the record.

    :param task_id: The vendor's task id, whichever way it was spelled.
    :param code: 200 for success, else the vendor's failure code.
    :param message: The vendor's words.
    :param stems: The stems that the delivery names.
    """

    task_id: str
    code: int
    message: str = ""
    stems: tuple[StemLink, ...] = ()
