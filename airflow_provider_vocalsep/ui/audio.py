"""Stems through the API server: streamed from the bucket, in the ranges that players request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from airflow_provider_vocalsep.storage.errors import ConflictError, InvalidRangeError, StorageError
from airflow_provider_vocalsep.ui.documents import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_vocalsep.landing.manifest import LandedStem
    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore, ObjectStream

#: A single range. All others are ignored (RFC 9110, 14.2).
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")

_CHUNK = 256 * 1024


def stream_stem(
    store: ObjectStore,
    location: Location,
    stem: LandedStem,
    headers: Mapping[str, str],
    *,
    file_name: str | None = None,
    body: bool = True,
) -> Response:
    """
    Respond with a stem.

    :param location: The destination, outside of which nothing is opened.
    :param stem: The stem, from a manifest.
    :param headers: Headers of the request.
    :param file_name: Offer it as a download with this name.
    :param body: Whether to send the bytes, or the headers only.
    :raises UnreadableError: it is elsewhere, or could not be read.
    """
    key = location.key_of(stem.uri)
    if key is None:
        raise UnreadableError(f"{stem.uri} is outside of {location.uri}, so it is not opened.")
    try:
        stream = _open(store, location.bucket, key, headers)
    except InvalidRangeError:
        return Response(None, 416, {"content-range": "bytes */*", "accept-ranges": "bytes"})
    except StorageError as e:
        raise UnreadableError.of(location.uri_of(key), e) from e
    answer = {
        "accept-ranges": "bytes",
        "content-length": str(stream.bytes),
        "etag": stream.etag,
        "cache-control": "private, no-cache",
        # Airflow compresses responses that have no content encoding, and a compressed one has no ranges.
        "content-encoding": "identity",
    }
    if stream.content_range:
        answer["content-range"] = stream.content_range
    if file_name:
        answer["content-disposition"] = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
    is_audio = re.fullmatch(r"audio/[a-z0-9.+-]+", stem.content_type)
    media_type = stem.content_type if is_audio else "application/octet-stream"
    status = 206 if stream.content_range else 200
    if not body:
        stream.close()
        return Response(None, status, answer, media_type)
    return StreamingResponse(stream.chunks(_CHUNK), status, answer, media_type)


def _open(store: ObjectStore, bucket: str, key: str, headers: Mapping[str, str]) -> ObjectStream:
    wanted = headers.get("range", "")
    if not _RANGE.fullmatch(wanted):
        return store.open(bucket, key)
    try:
        return store.open(bucket, key, byte_range=wanted, if_match=headers.get("if-range"))
    except ConflictError:  # the browser has a part of another version
        return store.open(bucket, key)
