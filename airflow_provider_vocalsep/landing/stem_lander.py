"""Landing one stem: from its link to its object, or the proof that it is there already."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_vocalsep.landing.audio import (
    AUDIO_EXTENSIONS,
    LEAST_BYTES,
    AudioFacts,
    inspect_audio,
    looks_like_text,
)
from airflow_provider_vocalsep.landing.download import CHUNK, Download, StoppedError
from airflow_provider_vocalsep.landing.errors import ContentChangedError, NotAudioError
from airflow_provider_vocalsep.landing.manifest import AbsentStem, LandedStem
from airflow_provider_vocalsep.landing.storage import head, s3_errors
from airflow_provider_vocalsep.landing.upload import MultipartUpload, PartBuffer, base64_of, put_object
from airflow_provider_vocalsep.storage.errors import DestinationError, StorageError
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from concurrent.futures import Executor

    import requests
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from airflow_provider_vocalsep.api.models import StemLink
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.storage.location import StemLocation

log = logging.getLogger(__name__)

#: How far a stem's length may be from the one expected: encoders pad by tenths of a second, and MP3 without a header
#: lets its length only be estimated.
TOLERANCE_SECONDS = 2.0
TOLERANCE_SHARE = 0.05

#: How often a file may become another one while it is downloaded.
_BEGINNINGS = 2

# Metadata that tells a later try what an object is.
_TASK_ID, _STEM, _AUDIO_ID = "vocalsep-task-id", "vocalsep-stem", "vocalsep-audio-id"
_BYTES, _DURATION, _SHA256 = "vocalsep-bytes", "vocalsep-duration", "sha256"


@dataclass(frozen=True)
class LandingResources:
    """
    What all landings of one lander share.

    :param client: A boto3 S3 client.
    :param session: A guarded session.
    :param guard: For the size limit.
    :param upload_args: Further arguments of every upload.
    :param max_parallel: How many stems are moved at the same time.
    :param turns: Keeps to that over all tracks.
    :param permits: Keeps to the number of parts in memory.
    """

    client: S3Client
    session: requests.Session
    guard: DownloadGuard
    upload_args: Mapping[str, Any]
    max_parallel: int
    turns: threading.Semaphore
    permits: threading.Semaphore


@dataclass(frozen=True)
class StemRequest:
    """
    One stem that is to land.

    :param stem: The stem as the vendor offers it.
    :param place: Where it belongs.
    :param vendor_task_id: The vendor's task, part of the proof that an object is this stem.
    :param expected_duration: Length in seconds of the track, if known.
    :param before: What an earlier manifest of the same task says about it.
    :param replace: Send it even if it is there.
    """

    stem: StemLink
    place: StemLocation
    vendor_task_id: str
    expected_duration: float | None = None
    before: LandedStem | None = None
    replace: bool = False


def land_stem(
    order: StemRequest, tools: LandingResources, senders: Executor, stopped: threading.Event
) -> LandedStem | AbsentStem:
    """
    Bring one stem to its place.

    :param order: Which one.
    :param tools: What moves it.
    :param senders: Sends the parts of a large one.
    :param stopped: Set from outside to give up.
    :return: What landed (or was there), or why the track has no such stem.
    :raises VocalSepError: it did not land; nothing of it is left behind.
    """
    return StemLander(order, tools, senders, stopped).run()


def is_unchanged(landed: LandedStem, found: HeadObjectOutputTypeDef) -> bool:
    """Tell from an object's head whether it is what landed."""
    if found["ContentLength"] != landed.bytes:
        return False
    stored = found.get("ChecksumSHA256")
    if stored and landed.checksum:
        return stored == landed.checksum
    return found.get("ETag", "").strip('"') == landed.etag


def _describe(outcome: LandedStem | AbsentStem) -> str:
    if isinstance(outcome, AbsentStem):
        return f"the track has none, {outcome.reason}"
    plays = f", {outcome.duration_seconds:.1f} s" if outcome.duration_seconds else ""
    return f"landed at {outcome.uri} ({outcome.bytes} bytes{plays})"


class StemLander:
    """Lands one stem; see :func:`land_stem`."""

    def __init__(
        self, order: StemRequest, tools: LandingResources, senders: Executor, stopped: threading.Event
    ) -> None:
        self.order = order
        self.stem = order.stem
        self.place = order.place
        self.tools = tools
        self.senders = senders
        self.stopped = stopped
        self.found: tuple[str, HeadObjectOutputTypeDef] | None = None

    def run(self) -> LandedStem | AbsentStem:
        """Land it, or return what is there already."""
        if self.stopped.is_set():
            raise StoppedError("The landing was given up.")
        if not self.order.replace:
            there = self._from_manifest() or self._from_metadata()
            if there is not None:
                log.info("Stem %s is there already: %s", self.stem.name, there.uri)
                return there
        for beginning in range(1, _BEGINNINGS + 1):
            try:
                outcome = self._transfer()
                log.info("Stem %s: %s", self.stem.name, _describe(outcome))
                return outcome
            except ContentChangedError as e:
                if beginning == _BEGINNINGS:
                    raise
                log.warning("Stem %s: %s Beginning anew.", self.stem.name, e)
        raise AssertionError("unreachable: the last beginning returns or raises")

    # What is there already ---------------------------------------------------------------------------------------

    def _from_manifest(self) -> LandedStem | None:
        before = self.order.before
        if before is None:
            return None
        bucket, key = parse_s3_uri(before.uri)
        found = self._head(key) if bucket == self.place.bucket else None
        return before if found and is_unchanged(before, found) else None

    def _from_metadata(self) -> LandedStem | None:
        """Recognise a stem that an earlier try landed before it could write the manifest."""
        key = self.place.stem_key(self.stem.name, self._likely_extension())
        found = self._head(key)
        if found is None:
            return None
        self.found = key, found
        says, size = found["Metadata"], found["ContentLength"]
        if (says.get(_TASK_ID), says.get(_STEM), says.get(_AUDIO_ID)) != (
            self.order.vendor_task_id,
            self.stem.name,
            self.stem.audio_id,
        ):
            return None
        if says.get(_BYTES, str(size)) != str(size):
            return None
        stored = found.get("ChecksumSHA256")
        digest = says.get(_SHA256)
        if digest is None:
            # What was sent in parts could not know its digest beforehand: it is read again, from the bucket.
            digest = self._digest_in_bucket(key, size)
        elif stored and stored != base64_of(digest):
            digest = None
        if digest is None:
            return None
        duration = says.get(_DURATION)
        return self._landed(
            key,
            size,
            digest,
            content_type=found["ContentType"],
            duration=float(duration) if duration else None,
            tags=(found.get("ETag", "").strip('"') or None, stored),
        )

    def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        try:
            return head(self.tools.client, self.place.bucket, key)
        except DestinationError:
            # Who may only write is told 403 about what is not there: then it is sent, and the store says what it thinks.
            return None

    def _digest_in_bucket(self, key: str, size: int) -> str | None:
        digest, received = hashlib.sha256(), 0
        try:
            with s3_errors(self.place.bucket, key, "read"):
                body = self.tools.client.get_object(Bucket=self.place.bucket, Key=key)["Body"]
                for chunk in body.iter_chunks(CHUNK):
                    digest.update(chunk)
                    received += len(chunk)
        except (DestinationError, StorageError) as e:
            log.info("Stem %s: %s It is downloaded again.", self.stem.name, e)
            return None
        return digest.hexdigest() if received == size else None

    def _likely_extension(self) -> str:
        ending = PurePosixPath(urlsplit(self.stem.url or "").path).suffix.lstrip(".").lower()
        return ending if ending in AUDIO_EXTENSIONS else "mp3"

    # From the link to the bucket -----------------------------------------------------------------------------------

    def _transfer(self) -> LandedStem | AbsentStem:
        tools = self.tools
        with (
            Download(tools.session, tools.guard, self.stem.url or "", stopped=self.stopped) as download,
            PartBuffer(tools.permits) as part,
        ):
            part.fill(download.read_into)
            if download.finished:
                return self._send_whole(part.bytes, download.sha256)
            return self._send_in_parts(download, part)

    def _send_whole(self, body: memoryview, digest: str) -> LandedStem | AbsentStem:
        size = len(body)
        if size < LEAST_BYTES and not looks_like_text(body):
            what = f"holds only {size} bytes" if size else "is empty"
            return AbsentStem(name=self.stem.name, reason=f"the vendor's file {what}")
        facts = inspect_audio(body)
        self._check_duration(facts)
        key = self.place.stem_key(self.stem.name, facts.extension)
        tags = self._same_bytes_in_bucket(key, size, digest)
        if tags is None:
            arguments = self._arguments(facts, {**self._metadata(size, facts), _SHA256: digest})
            tags = put_object(self.tools.client, self.place.bucket, key, body, digest, arguments)
        return self._landed(
            key, size, digest, content_type=facts.content_type, duration=facts.duration_seconds, tags=tags
        )

    def _same_bytes_in_bucket(self, key: str, size: int, digest: str) -> tuple[str | None, str | None] | None:
        """Recognise these very bytes from another vendor task, which need not be sent again."""
        if self.found is None or self.found[0] != key or self.order.replace:
            return None
        found = self.found[1]
        stored = found.get("ChecksumSHA256")
        if found["ContentLength"] != size or stored != base64_of(digest):
            return None
        return found.get("ETag", "").strip('"') or None, stored

    def _send_in_parts(self, download: Download, first: PartBuffer) -> LandedStem:
        facts = inspect_audio(first.bytes, download.total)
        if download.total is None:
            facts = replace(facts, duration_seconds=None)
        self._check_duration(facts)
        key = self.place.stem_key(self.stem.name, facts.extension)
        tools = self.tools
        with MultipartUpload(
            tools.client,
            self.senders,
            bucket=self.place.bucket,
            key=key,
            extra=self._arguments(facts, self._metadata(download.total, facts)),
        ) as upload:
            upload.send(first)
            while not download.finished:
                part = PartBuffer(tools.permits)
                try:
                    part.fill(download.read_into)
                except BaseException:
                    part.release()
                    raise
                upload.send(part)
            tags = upload.complete()
        found = self._head(key)
        if found is not None and found["ContentLength"] != download.received:
            raise StorageError(
                f"The bucket holds {found['ContentLength']} bytes at {self.place.uri_of(key)} where "
                f"{download.received} were sent. A retry sends them again."
            )
        return self._landed(
            key,
            download.received,
            download.sha256,
            content_type=facts.content_type,
            duration=facts.duration_seconds,
            tags=tags,
        )

    def _check_duration(self, facts: AudioFacts) -> None:
        expected = self.stem.duration or self.order.expected_duration
        seconds = facts.duration_seconds
        if not expected or seconds is None:
            return
        if abs(seconds - expected) > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * expected):
            source = "the vendor's record" if self.stem.duration else "the track's own duration"
            raise NotAudioError(f"it plays {seconds:.1f} s where {source} says {expected:.1f} s")

    def _metadata(self, size: int | None, facts: AudioFacts) -> dict[str, str]:
        known = {
            _TASK_ID: self.order.vendor_task_id,
            _STEM: self.stem.name,
            _AUDIO_ID: self.stem.audio_id,
            _BYTES: size,
            _DURATION: facts.duration_seconds,
        }
        return {name: str(value) for name, value in known.items() if value is not None}

    def _arguments(self, facts: AudioFacts, metadata: dict[str, str]) -> dict[str, Any]:
        given = self.tools.upload_args
        return {
            **given,
            "ContentType": facts.content_type,
            "Metadata": {**given.get("Metadata", {}), **metadata},
        }

    def _landed(
        self,
        key: str,
        size: int,
        digest: str,
        *,
        content_type: str,
        duration: float | None,
        tags: tuple[str | None, str | None],
    ) -> LandedStem:
        etag, checksum = tags
        return LandedStem(
            name=self.stem.name,
            uri=self.place.uri_of(key),
            bytes=size,
            sha256=digest,
            duration_seconds=duration,
            content_type=content_type,
            audio_id=self.stem.audio_id,
            etag=etag,
            checksum=checksum,
        )
