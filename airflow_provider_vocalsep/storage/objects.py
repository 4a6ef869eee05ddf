"""Objects in S3 as the store describes them: listed, by version, by metadata, as a stream."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from typing_extensions import Self


@dataclass(frozen=True)
class ListedObject:
    """
    An object in a listing.

    :param key: Its key.
    :param bytes: Its size.
    :param etag: Its ETag, with quotes.
    :param modified: When it was last written.
    """

    key: str
    bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class ObjectTag:
    """
    The store's identifiers of one version of an object.

    :param etag: Its ETag without quotes.
    :param checksum: The SHA-256 that the store keeps with it, base64; of the parts' checksums (``...-N``) if
        it was sent in parts. ``None`` for a store that keeps none.
    """

    etag: str | None
    checksum: str | None = None

    @classmethod
    def of_answer(cls, answer: Any) -> Self:
        """Read it from an answer of boto3."""
        return cls(answer.get("ETag", "").strip('"') or None, answer.get("ChecksumSHA256"))

    def has_sha256(self, digest: str) -> bool:
        """
        Return whether the store's checksum is this digest.

        :param digest: SHA-256 of the whole object, hex.
        """
        return self.checksum == base64_of(digest)


@dataclass(frozen=True)
class ObjectHead:
    """
    Size, version and metadata of an object.

    :param bytes: Its size.
    :param tag: Its version.
    :param content_type: Its media type.
    :param metadata: Its user metadata.
    """

    bytes: int
    tag: ObjectTag
    content_type: str
    metadata: Mapping[str, str]


class ObjectStream:
    """
    The bytes of an object, or of a range of it, read as they arrive. It can be read once.

    :param answer: Answer of boto3's ``get_object``.
    :param errors: Translates the errors of reading the body.
    """

    def __init__(self, answer: Mapping[str, Any], errors: AbstractContextManager[None]) -> None:
        self._body = answer["Body"]
        self._errors = errors
        #: Length of the stream.
        self.bytes: int = answer["ContentLength"]
        #: Version of the object, with quotes.
        self.etag: str = answer["ETag"]
        #: Which range it is (RFC 9110, ``Content-Range``); ``None`` for the whole object.
        self.content_range: str | None = answer.get("ContentRange")

    def chunks(self, size: int) -> Iterator[bytes]:
        """
        Read the stream in chunks.

        :param size: Bytes of a chunk.
        :raises StorageError: the connection broke.
        """
        with self._errors:
            try:
                yield from self._body.iter_chunks(size)
            finally:
                self._body.close()

    def close(self) -> None:
        """Return the connection."""
        self._body.close()


def base64_of(digest: str) -> str:
    """Encode a hex digest as S3 does."""
    return base64.b64encode(bytes.fromhex(digest)).decode()
