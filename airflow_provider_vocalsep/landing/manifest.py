"""The manifest: the landed stems of one separation, and the task instance that landed them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.vocabulary import SeparationType

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.track import Track


class ManifestError(VocalSepError):
    """A manifest is malformed."""


class LandedStem(BaseModel):
    """
    A stem in the bucket.

    :param name: Name of the stem.
    :param uri: Its address.
    :param bytes: Its size.
    :param sha256: SHA-256 of its bytes, hex.
    :param duration_seconds: Its duration, if the file reveals it.
    :param content_type: Its media type.
    :param audio_id: The vendor's id of the stem.
    :param etag: ETag of the object, without quotes.
    :param checksum: The SHA-256 that the store keeps with the object, base64; of the parts' checksums
        (``...-N``) if it was sent in parts. ``None`` for a store that keeps none.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    bytes: int
    sha256: str
    duration_seconds: float | None = None
    content_type: str
    audio_id: str | None = None
    etag: str | None = None
    checksum: str | None = None


class AbsentStem(BaseModel):
    """
    A stem that the track does not have.

    :param name: Name of the stem.
    :param reason: Why it counts as absent, such as an empty file.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    reason: str


class Manifest(BaseModel):
    """
    The landed stems of one separation.

    :param schema_version: Version of this schema.
    :param track: key, title, task_id, audio_id and audio_url (without credentials and signature) of the
        track.
    :param separation_type: Type of the separation.
    :param stem_name: The requested stem of ``split_stem_advanced``.
    :param dialect: The vendor's API dialect.
    :param vendor_task_id: Id of the vendor's task.
    :param vendor_created_at: When the vendor accepted the task.
    :param vendor_completed_at: When the vendor finished the task.
    :param landed_at: When the last stem had landed.
    :param stems: The stems in the bucket.
    :param absent: The stems that the track does not have.
    :param uri: Address of this manifest.
    :param asked_by: DAG, run, task, map index and try that landed it, and the user if the run was triggered
        manually.
    :param entry: Address of the ledger entry, if the ledger has one.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    track: dict[str, str | None]
    separation_type: SeparationType
    stem_name: str | None = None
    dialect: str
    vendor_task_id: str
    vendor_created_at: datetime | None = None
    vendor_completed_at: datetime | None = None
    landed_at: datetime
    stems: tuple[LandedStem, ...]
    absent: tuple[AbsentStem, ...] = ()
    uri: str
    asked_by: dict[str, Any] = Field(default_factory=dict)
    entry: str | None = None

    def stem(self, name: str) -> LandedStem | None:
        """Return a landed stem by its name."""
        return next((stem for stem in self.stems if stem.name == name), None)

    def summary(self) -> dict[str, Any]:
        """Return addresses, sizes and digests for an XCom; under 5 kB for twelve stems."""
        return {
            "manifest": self.uri,
            "track": self.track.get("key"),
            "separation_type": self.separation_type.value,
            "stem_name": self.stem_name,
            "vendor_task_id": self.vendor_task_id,
            "bytes": sum(stem.bytes for stem in self.stems),
            "stems": {
                stem.name: {
                    "uri": stem.uri,
                    "bytes": stem.bytes,
                    "sha256": stem.sha256,
                    "duration_seconds": stem.duration_seconds,
                }
                for stem in self.stems
            },
            "absent": [stem.name for stem in self.absent],
        }

    def to_json(self) -> bytes:
        """Return the bytes of ``manifest.json``."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str, *, where: str = "manifest") -> Manifest:
        """
        Parse ``manifest.json``.

        :param where: Address of the file, for the message.
        :raises ManifestError: it is not a manifest.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole file"
            raise ManifestError(
                f"{where} is not a manifest ({e.error_count()} problems, first: {field}: {first['msg']}). "
                "Landing the track again rewrites it."
            ) from e


def describe_track(track: Track) -> dict[str, str | None]:
    """Return the ``track`` of a manifest, with neither credentials nor a signature in its address."""
    url = track.audio_url
    if url is not None:
        parts = urlsplit(url)
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return {
        "key": track.key,
        "title": track.title,
        "task_id": track.task_id,
        "audio_id": track.audio_id,
        "audio_url": url,
    }
