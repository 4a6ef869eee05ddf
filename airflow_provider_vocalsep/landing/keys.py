"""Where things are in the bucket: a safe and distinct object key for whatever a user calls a track."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from airflow_provider_vocalsep.api.requests import slug_of
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.errors import DestinationError

#: A segment that is used as it is. The characters are those that S3's user guide calls safe
#: ("Creating object key names"); the first one keeps dot files and ``_vocalsep`` apart.
_SAFE_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,119}", re.ASCII)

#: Marks a segment that was rewritten. Never part of one that is used as it is, so the two cannot meet.
_REWRITTEN = "~"

#: Hex digits of SHA-256 that keep rewritten segments apart: 64 bits, so that among 100,000 tracks whose names hold
#: nothing readable the chance that any two meet is below 1e-9 (with 40 bits it would be 1 in 200).
_DIGEST_LENGTH = 16

#: How much of a rewritten name stays readable.
_SLUG_LENGTH = 60

#: A whole key may have 1024 bytes (S3); prefix, separation and stem need their share of them.
_MAX_KEY_LENGTH = 600

_S3_FORM = "s3://bucket/prefix"


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """
    Split an S3 address.

    :param uri: ``s3://bucket/key``; the key may be empty.
    :return: Bucket and key.
    :raises DestinationError: naming the address and the form expected.
    """
    scheme, separator, rest = str(uri).strip().partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not separator or not bucket:
        raise DestinationError(f"{uri!r} is not an address in S3: write it as {_S3_FORM}.")
    return bucket, key


def safe_key(track_key: str) -> str:
    """
    Turn a user's name of a track into part of an object key; different names never meet.

    ``/`` keeps its meaning. What is safe stays as it is; any other segment becomes what is readable of it, a
    ``~`` and part of its SHA-256.

    :param track_key: Any text.
    """
    key = "/".join(_safe_segment(segment) for segment in track_key.split("/"))
    return key if len(key) <= _MAX_KEY_LENGTH else _rewrite(track_key)


def _safe_segment(segment: str) -> str:
    return segment if _SAFE_SEGMENT.fullmatch(segment) else _rewrite(segment)


def _rewrite(segment: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", _ascii(segment)).strip("-.")[:_SLUG_LENGTH]
    # A lone surrogate (from a badly decoded file name) has no UTF-8 form of its own.
    digest = hashlib.sha256(segment.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}{_REWRITTEN}{digest[:_DIGEST_LENGTH]}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


@dataclass(frozen=True)
class StemLocation:
    """
    Where one separation of one track lands.

    :param destination: ``s3://bucket/prefix`` under which all tracks land.
    :param track_key: The user's name of the track.
    :param separation_type: What it is separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :raises DestinationError: ``destination`` is not an address in S3.
    """

    destination: str
    track_key: str
    separation_type: SeparationType
    stem_name: str | None = None

    def __post_init__(self) -> None:
        parse_s3_uri(self.destination)

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return parse_s3_uri(self.destination)[0]

    @property
    def prefix(self) -> str:
        """What the keys of all objects of this separation start with, without a slash at either end."""
        parts = [
            parse_s3_uri(self.destination)[1].strip("/"),
            safe_key(self.track_key),
            str(self.separation_type),
        ]
        if self.separation_type is SeparationType.SPLIT_STEM_ADVANCED:
            # Every stem name is a separation of its own, with a manifest of its own.
            parts.append(slug_of(self.stem_name or "") or "stem")
        return "/".join(part for part in parts if part)

    @property
    def manifest_key(self) -> str:
        """Key of the manifest; that it exists means that the separation is complete."""
        return f"{self.prefix}/manifest.json"

    @property
    def manifest_uri(self) -> str:
        """Address of the manifest."""
        return self.uri_of(self.manifest_key)

    def stem_key(self, name: str, extension: str) -> str:
        """
        Return the key of a stem.

        :param name: Name of the stem.
        :param extension: What the file is, without a dot.
        """
        return f"{self.prefix}/{_safe_segment(name)}.{extension}"

    def uri_of(self, key: str) -> str:
        """Return the address of an object in the bucket."""
        return f"s3://{self.bucket}/{key}"
