"""A track of the user's catalogue."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from airflow_provider_vocalsep.api.errors import TrackError

#: Largest own file in bytes (docs.sunoapi.org and docs.kie.ai, ``audioUrl``: "20MB").
MAX_OWN_FILE_BYTES = 20 * 1024 * 1024


class Track(BaseModel):
    """
    One track of the catalogue.

    :param key: The user's own name of the track, unique in the catalogue. Stems land under it.
    :param task_id: Vendor task id of the Generate or Extend Music call that created the track. With
        ``audio_id``.
    :param audio_id: Vendor id of the audio inside that task.
    :param audio_url: Instead of the two ids: an own file, ``https://`` or ``s3://`` (then presigned for the
        vendor), at most 20 MB.
    :param title: Title for people; shown as the map index label. Defaults to ``key``.
    :param duration: Length in seconds; stems are checked against it.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", str_strip_whitespace=True, coerce_numbers_to_str=True
    )

    key: str
    task_id: str | None = None
    audio_id: str | None = None
    audio_url: str | None = None
    title: str | None = None
    duration: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @field_validator("task_id", "audio_id", "audio_url", "title", "duration", mode="before")
    @classmethod
    def _replace_empty_with_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("duration")
    @classmethod
    def _replace_zero_with_none(cls, value: float | None) -> float | None:
        return value or None

    @model_validator(mode="after")
    def _require_one_source(self) -> Track:
        if not self.key:
            raise ValueError("it has no key: give every track a unique name")
        pair = self.task_id is not None, self.audio_id is not None
        if self.audio_url is not None and any(pair):
            raise ValueError("give either task_id and audio_id, or audio_url, not both")
        if self.audio_url is None and not all(pair):
            missing = " and ".join(n for n, has in zip(("task_id", "audio_id"), pair, strict=True) if not has)
            raise ValueError(
                f"{missing} missing: give task_id and audio_id of a generated track, or audio_url"
            )
        if self.audio_url is not None:
            parts = urlsplit(self.audio_url)
            if parts.scheme not in ("https", "http", "s3") or not parts.netloc:
                raise ValueError(f"audio_url {self.audio_url!r} is not an https:// or s3:// address")
        return self

    @property
    def label(self) -> str:
        """Title, or key where there is none."""
        return self.title or self.key

    @classmethod
    def parse(cls, value: Track | dict[str, Any]) -> Track:
        """
        Parse a track from a mapping of its fields.

        :raises TrackError: naming the track, the field and what to change.
        """
        if isinstance(value, Track):
            return value
        if not isinstance(value, dict):
            raise TrackError(
                f"A track is a mapping with key, task_id and audio_id (or audio_url); got {value!r}."
            )
        try:
            return cls.model_validate(value)
        except ValidationError as e:
            name = value.get("key") or value.get("title") or value
            problems = "; ".join(
                (f"{'.'.join(map(str, p['loc']))}: " if p["loc"] else "")
                + p["msg"].removeprefix("Value error, ")
                for p in e.errors()
            )
            raise TrackError(f"Track {name!r} cannot be submitted: {problems}.") from None
