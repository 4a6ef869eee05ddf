"""Landing of one stem: from its link to its object, unless the object exists already."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_vocalsep.api.errors import StoppedError
from airflow_provider_vocalsep.landing.audio import (
    AUDIO_EXTENSIONS,
    MIN_BYTES,
    AudioFacts,
    inspect_audio,
    is_text,
)
from airflow_provider_vocalsep.landing.download import CHUNK, Download
from airflow_provider_vocalsep.landing.errors import ContentChangedError, NotAudioError
from airflow_provider_vocalsep.landing.manifest import AbsentStem, LandedStem
from airflow_provider_vocalsep.landing.upload import MultipartUpload, PartBuffer, uncopied_body
from airflow_provider_vocalsep.storage.errors import DestinationError, StorageError
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Executor

    import requests

    from airflow_provider_vocalsep.api.models import StemLink
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.storage.location import StemLocation
    from airflow_provider_vocalsep.storage.objects import ObjectHead, ObjectTag
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

#: Largest difference between a stem's duration and the expected one: encoders pad by tenths of a second, and
#: the duration of an MP3 file without a header is an estimate.
TOLERANCE_SECONDS = 2.0
TOLERANCE_SHARE = 0.05

#: Attempts at a file that changes during its download.
_MAX_ATTEMPTS = 2

# Metadata by which a later try recognises an object.
_TASK_ID, _STEM, _AUDIO_ID = "vocalsep-task-id", "vocalsep-stem", "vocalsep-audio-id"
_BYTES, _DURATION, _SHA256 = "vocalsep-bytes", "vocalsep-duration", "sha256"


@dataclass(frozen=True)
class LandingResources:
    """
    Everything that the stems of one lander share.

    :param session: A guarded session.
    :param max_parallel: Largest number of stems that land at the same time.
    :param stem_permits: Enforces ``max_parallel`` over all tracks.
    :param part_permits: Limits the parts in memory.
    :param stopped: Set when the Airflow task is to stop.
    """

    store: ObjectStore
    session: requests.Session
    guard: DownloadGuard
    max_parallel: int
    stem_permits: threading.Semaphore
    part_permits: threading.Semaphore
    stopped: threading.Event


@dataclass(frozen=True)
class StemRequest:
    """
    A stem to land.

    :param stem: The vendor's link to it.
    :param location: Where it lands.
    :param vendor_task_id: The vendor's task, by which a later try recognises the object.
    :param expected_duration: Duration of the track in seconds, if known.
    :param previous: The stem in an earlier manifest of the same vendor task.
    :param replace: Send it even if it exists.
    """

    stem: StemLink
    location: StemLocation
    vendor_task_id: str
    expected_duration: float | None = None
    previous: LandedStem | None = None
    replace: bool = False


def is_unchanged(landed: LandedStem, found: ObjectHead) -> bool:
    """Return whether an object is still the stem that landed."""
    if found.bytes != landed.bytes:
        return False
    if found.tag.checksum and landed.checksum:
        return found.tag.checksum == landed.checksum
    return found.tag.etag is not None and found.tag.etag == landed.etag


class StemLander:
    """
    Lands one stem.

    :param part_executor: Sends the parts of a large stem.
    """

    def __init__(
        self,
        request: StemRequest,
        resources: LandingResources,
        part_executor: Executor,
    ) -> None:
        self.request = request
        self.stem = request.stem
        self.location = request.location
        self.resources = resources
        self.store = resources.store
        self.part_executor = part_executor
        self.existing: tuple[str, ObjectHead] | None = None

    def land(self) -> LandedStem | AbsentStem:
        """
        Land the stem, unless it exists.

        :return: The stem in the bucket, or the reason why the track has no such stem.
        :raises VocalSepError: it did not land; no part of it remains in the bucket.
        """
        if self.resources.stopped.is_set():
            raise StoppedError("The landing was stopped.")
        if not self.request.replace:
            existing = self._find_by_manifest() or self._find_by_metadata()
            if existing is not None:
                log.info("Stem %s exists already: %s", self.stem.name, existing.uri)
                return existing
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                outcome = self._transfer()
            except ContentChangedError as e:
                if attempt == _MAX_ATTEMPTS:
                    raise
                log.warning("Stem %s: %s Downloading it from the start.", self.stem.name, e)
            else:
                log.info("Stem %s: %s", self.stem.name, _describe(outcome))
                return outcome
        raise AssertionError("unreachable: the last attempt returns or raises")

    # Existing objects
    # --------------------------------------------------------------------------------------------

    def _find_by_manifest(self) -> LandedStem | None:
        previous = self.request.previous
        if previous is None:
            return None
        bucket, key = parse_s3_uri(previous.uri)
        found = self._head(key) if bucket == self.location.bucket else None
        return previous if found and is_unchanged(previous, found) else None

    def _find_by_metadata(self) -> LandedStem | None:
        """Return the stem if an earlier try landed it before it could write the manifest."""
        extension = self._likely_extension()
        key = self.location.stem_key(self.stem.name, extension)
        found = self._head(key)
        if found is None:
            return None
        self.existing = key, found
        metadata = found.metadata
        if (metadata.get(_TASK_ID), metadata.get(_STEM), metadata.get(_AUDIO_ID)) != (
            self.request.vendor_task_id,
            self.stem.name,
            self.stem.audio_id,
        ):
            return None
        if metadata.get(_BYTES, str(found.bytes)) != str(found.bytes):
            return None
        digest = metadata.get(_SHA256)
        if digest is None:
            # The digest of a stem in parts is unknown when its metadata is sent: compute it from the bucket.
            digest = self._compute_digest(key, found.bytes)
        elif found.tag.checksum and not found.tag.has_sha256(digest):
            return None
        if digest is None:
            return None
        duration = metadata.get(_DURATION)
        facts = AudioFacts(extension, found.content_type, float(duration) if duration else None)
        return self._landed_stem(key, found.bytes, digest, facts, found.tag)

    def _head(self, key: str) -> ObjectHead | None:
        try:
            return self.store.head(self.location.bucket, key)
        except DestinationError:
            # The store answers 403 to credentials that may only write. Then the stem is sent.
            return None

    def _compute_digest(self, key: str, size: int) -> str | None:
        digest, received = hashlib.sha256(), 0
        try:
            for chunk in self.store.open(self.location.bucket, key).chunks(CHUNK):
                digest.update(chunk)
                received += len(chunk)
        except StorageError as e:
            log.info("Stem %s: %s Downloading it again.", self.stem.name, e)
            return None
        return digest.hexdigest() if received == size else None

    def _likely_extension(self) -> str:
        extension = PurePosixPath(urlsplit(self.stem.url or "").path).suffix.lstrip(".").lower()
        return extension if extension in AUDIO_EXTENSIONS else "mp3"

    # From the link to the bucket
    # -----------------------------------------------------------------------------------

    def _transfer(self) -> LandedStem | AbsentStem:
        session, guard = self.resources.session, self.resources.guard
        with (
            Download(session, guard, self.stem.url or "", stopped=self.resources.stopped) as download,
            PartBuffer(self.resources.part_permits) as part,
        ):
            part.fill(download.read_into)
            if download.finished:
                return self._send_whole(part.bytes, download.sha256)
            return self._send_in_parts(download, part)

    def _send_whole(self, body: memoryview, digest: str) -> LandedStem | AbsentStem:
        size = len(body)
        if size < MIN_BYTES and not is_text(body):
            content = f"holds only {size} bytes" if size else "is empty"
            return AbsentStem(name=self.stem.name, reason=f"the vendor's file {content}")
        facts = inspect_audio(body)
        self._check_duration(facts)
        key = self.location.stem_key(self.stem.name, facts.extension)
        tag = self._tag_of_same_bytes(key, size, digest)
        if tag is None:
            tag = self.store.put(
                self.location.bucket,
                key,
                uncopied_body(body),
                content_type=facts.content_type,
                sha256=digest,
                stem={**self._metadata(size, facts), _SHA256: digest},
            )
        return self._landed_stem(key, size, digest, facts, tag)

    def _tag_of_same_bytes(self, key: str, size: int, digest: str) -> ObjectTag | None:
        """Return the version of the existing object if another vendor task landed the same bytes there."""
        if self.existing is None or self.existing[0] != key or self.request.replace:
            return None
        found = self.existing[1]
        return found.tag if found.bytes == size and found.tag.has_sha256(digest) else None

    def _send_in_parts(self, download: Download, first: PartBuffer) -> LandedStem:
        facts = inspect_audio(first.bytes, download.total)
        if download.total is None:
            facts = replace(facts, duration_seconds=None)
        self._check_duration(facts)
        bucket, key = self.location.bucket, self.location.stem_key(self.stem.name, facts.extension)
        metadata = self._metadata(download.total, facts)
        with MultipartUpload(
            self.store, self.part_executor, bucket, key, content_type=facts.content_type, stem=metadata
        ) as upload:
            upload.send(first)
            while not download.finished:
                part = PartBuffer(self.resources.part_permits)
                try:
                    part.fill(download.read_into)
                except BaseException:
                    part.release()
                    raise
                upload.send(part)
            tag = upload.complete()
        found = self._head(key)
        if found is not None and found.bytes != download.received:
            raise StorageError(
                f"{self.location.uri_of(key)} holds {found.bytes} bytes, but {download.received} were sent. "
                "A retry sends them again."
            )
        return self._landed_stem(key, download.received, download.sha256, facts, tag)

    def _check_duration(self, facts: AudioFacts) -> None:
        expected = self.stem.duration or self.request.expected_duration
        seconds = facts.duration_seconds
        if not expected or seconds is None:
            return
        if abs(seconds - expected) > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * expected):
            source = "the vendor's record" if self.stem.duration else "the track's own duration"
            raise NotAudioError(f"it plays {seconds:.1f} s where {source} says {expected:.1f} s")

    def _metadata(self, size: int | None, facts: AudioFacts) -> dict[str, str]:
        known = {
            _TASK_ID: self.request.vendor_task_id,
            _STEM: self.stem.name,
            _AUDIO_ID: self.stem.audio_id,
            _BYTES: size,
            _DURATION: facts.duration_seconds,
        }
        return {name: str(value) for name, value in known.items() if value is not None}

    def _landed_stem(self, key: str, size: int, digest: str, facts: AudioFacts, tag: ObjectTag) -> LandedStem:
        return LandedStem(
            name=self.stem.name,
            uri=self.location.uri_of(key),
            bytes=size,
            sha256=digest,
            duration_seconds=facts.duration_seconds,
            content_type=facts.content_type,
            audio_id=self.stem.audio_id,
            etag=tag.etag,
            checksum=tag.checksum,
        )


def _describe(outcome: LandedStem | AbsentStem) -> str:
    if isinstance(outcome, AbsentStem):
        return f"the track has none, {outcome.reason}"
    duration = f", {outcome.duration_seconds:.1f} s" if outcome.duration_seconds else ""
    return f"landed at {outcome.uri} ({outcome.bytes} bytes{duration})"
