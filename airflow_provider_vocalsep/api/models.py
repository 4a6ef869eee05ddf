"""The vendor's answers, typed and immutable, with nothing added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class StemLink:
    """
    One stem in a record or a callback.

    :param name: Name of the stem's object without extension: a :class:`Stem` value, or for
        ``split_stem_advanced`` the slug of the stem name with ``_extract`` or ``_remove``.
    :param url: Download link, percent-encoded; ``None`` when the vendor says that the track has no such stem.
    :param audio_id: The vendor's id of the stem.
    :param duration: Length in seconds.
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
    :param stems: Every stem that the record names, with or without a link, in the order of :class:`Stem`.
    :param music_id: Id of the source track; ``None`` for an own file.
    :param created_at: When the vendor accepted the task (UTC).
    :param completed_at: When the task ended (UTC).
    :param error_code: The vendor's code of a failed task.
    :param error_message: The vendor's text about a failed task.
    :param raw: ``data`` of the answer, unchanged.
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
        """Whether the stems can be downloaded, even if the vendor failed to deliver its callback."""
        return self.status is TaskStatus.SUCCESS or (
            self.status is TaskStatus.CALLBACK_EXCEPTION and bool(self.present)
        )

    @property
    def failed(self) -> bool:
        """Whether the vendor ended the task without stems."""
        return self.status in (TaskStatus.CREATE_TASK_FAILED, TaskStatus.GENERATE_AUDIO_FAILED) or (
            self.status is TaskStatus.CALLBACK_EXCEPTION and not self.present
        )


@dataclass(frozen=True)
class Callback:
    """
    The body of one callback delivery. A hint only: stem links are always taken from the record.

    :param task_id: The vendor's task id, under whichever key it was sent.
    :param code: 200 for success, else the vendor's failure code.
    :param message: The vendor's text.
    """

    task_id: str
    code: int
    message: str = ""
    stems: tuple[StemLink, ...] = ()
