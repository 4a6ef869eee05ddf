"""The manifest: what landed for one separation, and who asked for it. Written last, read by everybody."""

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
    """A manifest cannot be read."""


class LandedStem(BaseModel):
    """
    A stem in the bucket.

    :param name: Name of the stem.
    :param uri: Where it is.
    :param bytes: Its size.
    :param sha256: SHA-256 of its bytes, hex.
    :param duration_seconds: Its length, if that can be told from the file.
    :param content_type: What it is.
    :param audio_id: The vendor's id of it.
    :param etag: What the store calls this version, without quotes.
    :param checksum: The SHA-256 that the store keeps with the object, base64; of all parts (``...-N``) if it
        was sent in parts. ``None`` for a store that keeps none.
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
    :param reason: How the vendor said so.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    reason: str


class Manifest(BaseModel):
    """
    What landed for one separation.

    :param schema_version: Version of this form.
    :param track: key, title, task_id, audio_id and audio_url (without what may sign it) of the track.
    :param separation_type: What the track was separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param dialect: Which vendor separated it.
    :param vendor_task_id: The vendor's task.
    :param vendor_created_at: When the vendor accepted it.
    :param vendor_completed_at: When it was done.
    :param landed_at: When the last stem was in the bucket.
    :param stems: What is in the bucket.
    :param absent: What the track does not have.
    :param uri: Where this manifest is.
    :param asked_by: DAG, run, task, map index and try that landed it, and the user who triggered the run by hand.
    :param entry: Address of the ledger entry, if it was paid for through one.
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
        """Return the stem of that name, if it landed."""
        return next((stem for stem in self.stems if stem.name == name), None)

    def summary(self) -> dict[str, Any]:
        """Return what an XCom should hold: addresses, sizes and digests; under 5 kB for twelve stems."""
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
        Read ``manifest.json``.

        :param text: Its content.
        :param where: Its address, for the message.
        :raises ManifestError: it is not a manifest.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            raise ManifestError(
                f"{where} is not a manifest ({e.error_count()} problems, first: {field}: {first['msg']}). "
                "Landing the track again writes it anew."
            ) from e


def describe_track(track: Track) -> dict[str, str | None]:
    """Return what a manifest says about its track: no credentials and no signature of its address."""
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
