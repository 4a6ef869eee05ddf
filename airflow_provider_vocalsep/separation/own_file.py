"""Getting an own file ready for the vendor: how large it is, which version, and a link that the vendor can fetch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.track import MAX_OWN_FILE_BYTES
from airflow_provider_vocalsep.client.settings import TIMEOUT, USER_AGENT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.track import Track

log = logging.getLogger(__name__)

#: Seconds that a presigned link to an own file works: longer than the vendor's queue ever was.
PRESIGNED_FOR = 24 * 3600


class SourceError(VocalSepError):
    """An own file could not be looked at; nothing was submitted."""


@dataclass(frozen=True)
class PreparedFile:
    """
    A track as it is sent to the vendor.

    :param track: The track, its ``audio_url`` one that the vendor can fetch.
    :param fingerprint: Version of the audio; empty when it cannot change or cannot be told.
    """

    track: Track
    fingerprint: str = ""


def prepare_file(track: Track, s3_client: S3Client | None) -> PreparedFile:
    """
    Look at a track's own file before anything is paid for it.

    :param track: The track.
    :param s3_client: A boto3 S3 client, needed for ``s3://`` addresses.
    :return: The track as it is sent, and the version of its audio.
    :raises TrackError: the file is missing or larger than the vendor takes.
    :raises SourceError: the bucket did not answer.
    """
    if track.audio_url is None:
        return PreparedFile(track)
    if urlsplit(track.audio_url).scheme == "s3":
        if s3_client is None:
            raise TrackError(f"Track {track.key!r}: an s3:// audio_url needs aws_conn_id to be set.")
        return _from_s3(track, s3_client)
    _refuse_large(track, _announced_size(track.audio_url))
    return PreparedFile(track)


def _from_s3(track: Track, client: S3Client) -> PreparedFile:
    parts = urlsplit(track.audio_url or "")
    bucket, key = parts.netloc, parts.path.lstrip("/")
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except ClientError as e:
        code = e.response.get("Error", {}).get("Code", "")
        if code in ("404", "NoSuchKey", "NoSuchBucket"):
            raise TrackError(
                f"Track {track.key!r}: {track.audio_url} does not exist. Nothing was submitted."
            ) from e
        raise SourceError(
            f"Track {track.key!r}: {track.audio_url} could not be looked at ({e}). Nothing was submitted; check "
            "that the connection may read the bucket."
        ) from e
    except BotoCoreError as e:
        raise SourceError(
            f"Track {track.key!r}: {track.audio_url} could not be looked at ({e}). Nothing was submitted."
        ) from e
    _refuse_large(track, head["ContentLength"])
    link = client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=PRESIGNED_FOR
    )
    return PreparedFile(track.model_copy(update={"audio_url": link}), fingerprint=head["ETag"].strip('"'))


def _announced_size(url: str) -> int | None:
    """Ask the host how large a file is. Presigned links answer only to GET, so it is a GET left unread."""
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
        # The vendor may reach what this worker cannot, so this is no reason to refuse.
        log.info(
            "Could not look at %s (%s); the vendor will say if it is too large.", urlsplit(url).netloc, e
        )
        return None


def _refuse_large(track: Track, size: int | None) -> None:
    if size is not None and size > MAX_OWN_FILE_BYTES:
        raise TrackError(
            f"Track {track.key!r}: the file has {size / 2**20:.1f} MB and the vendor takes at most "
            f"{MAX_OWN_FILE_BYTES // 2**20} MB. Nothing was submitted; encode it smaller (an MP3 at 320 kbit/s "
            "holds about 8 minutes)."
        )
