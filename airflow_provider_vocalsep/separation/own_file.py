"""Preparing an own file for the vendor: its size, its version, and a link that the vendor can fetch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.track import MAX_OWN_FILE_BYTES
from airflow_provider_vocalsep.client.settings import TIMEOUT, USER_AGENT
from airflow_provider_vocalsep.storage.errors import NoBucketError, StorageError

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

#: Seconds for which a presigned link to an own file is valid: longer than any queue seen at a vendor.
PRESIGNED_FOR = 24 * 3600


class SourceError(VocalSepError):
    """The bucket of an own file did not answer; nothing was submitted."""


@dataclass(frozen=True)
class PreparedFile:
    """
    A track as it is submitted.

    :param track: The track, with an ``audio_url`` that the vendor can fetch.
    :param fingerprint: Version of the audio; empty when it cannot change or is not known.
    """

    track: Track
    fingerprint: str = ""


def prepare_file(track: Track, store: ObjectStore | None) -> PreparedFile:
    """
    Check a track's own file before it is paid for.

    :param store: Needed for ``s3://`` addresses.
    :raises TrackError: the file is missing or larger than the vendor takes.
    :raises SourceError: the bucket did not answer.
    """
    if track.audio_url is None:
        return PreparedFile(track)
    if urlsplit(track.audio_url).scheme == "s3":
        if store is None:
            raise TrackError(f"Track {track.key!r}: an s3:// audio_url needs aws_conn_id to be set.")
        return _prepare_object(track, store)
    _refuse_large(track, _read_announced_size(track.audio_url))
    return PreparedFile(track)


def _prepare_object(track: Track, store: ObjectStore) -> PreparedFile:
    parts = urlsplit(track.audio_url or "")
    bucket, key = parts.netloc, parts.path.lstrip("/")
    try:
        found = store.head(bucket, key)
    except NoBucketError:
        found = None
    except StorageError as e:
        raise SourceError(f"Track {track.key!r}: {e} Nothing was submitted.") from e
    if found is None:
        raise TrackError(f"Track {track.key!r}: {track.audio_url} does not exist. Nothing was submitted.")
    _refuse_large(track, found.bytes)
    link = store.presign(bucket, key, seconds=PRESIGNED_FOR)
    return PreparedFile(track.model_copy(update={"audio_url": link}), fingerprint=found.tag.etag or "")


def _read_announced_size(url: str) -> int | None:
    """Ask the host for the size of a file, with a GET that is not read: presigned links reject HEAD."""
    try:
        with requests.get(
            url,
            stream=True,
            timeout=TIMEOUT,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        ) as response:
            size = response.headers.get("Content-Length", "")
            return int(size) if response.ok and size.isdigit() else None
    except requests.RequestException as e:
        # The vendor may reach a host that this worker cannot reach.
        host = urlsplit(url).netloc
        log.info("Could not read the size of a file at %s (%s); the vendor refuses it if too large.", host, e)
        return None


def _refuse_large(track: Track, size: int | None) -> None:
    if size is not None and size > MAX_OWN_FILE_BYTES:
        raise TrackError(
            f"Track {track.key!r}: the file has {size / 2**20:.1f} MB and the vendor takes at most "
            f"{MAX_OWN_FILE_BYTES // 2**20} MB. Nothing was submitted; encode it smaller (an MP3 at "
            "320 kbit/s holds about 8 minutes)."
        )
