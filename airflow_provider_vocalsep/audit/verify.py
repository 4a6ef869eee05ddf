"""Reading landed stems and comparing their sizes and SHA-256 with the manifests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.audit.parallel import THREADS, in_parallel
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, ManifestError
from airflow_provider_vocalsep.storage.errors import NotFoundError, StorageError
from airflow_provider_vocalsep.storage.location import MANIFEST

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from airflow_provider_vocalsep.audit.entries import Archive

#: Bytes that are in memory at a time, per thread.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Problem:
    """
    An object that differs from what landed, or could not be read.

    :param kind: ``missing``, ``different`` or ``unread``.
    :param track: Key of the track, if it is known.
    :param uri: The object.
    :param message: How it differs, or why it could not be read.
    """

    kind: str
    track: str | None
    uri: str
    message: str


@dataclass
class VerifyResult:
    """
    The result of a check.

    :param tracks: Manifests whose stems were read.
    :param stems: Stems that are as they landed.
    :param bytes: Their bytes.
    :param problems: Objects that are not as they landed.
    """

    tracks: int = 0
    stems: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: VerifyResult) -> None:
        """Add the result of another check."""
        self.tracks += other.tracks
        self.stems += other.stems
        self.bytes += other.bytes
        self.problems += other.problems

    @property
    def exit_code(self) -> int:
        """0 if all is as it landed, 1 if something is missing or different, 2 if something is unread."""
        kinds = {problem.kind for problem in self.problems}
        return 1 if kinds - {"unread"} else 2 if kinds else 0


class StoppedError(Exception):
    """The caller has set ``stop``."""


class Verifier:
    """
    Checks a destination.

    :param archive: The destination.
    :param stop: Set to end early, between two blocks of a stem.
    """

    def __init__(self, archive: Archive, stop: threading.Event) -> None:
        self.archive = archive
        self.stop = stop
        self.bucket = archive.destination.bucket

    def manifests(self) -> list[str]:
        """
        List the manifests.

        :return: Their keys.
        :raises StorageError: the bucket cannot be listed.
        """
        destination = self.archive.destination
        items = self.archive.store.list_objects(self.bucket, destination.listing_prefix)
        return [item.key for item in items if destination.is_manifest(item.key)]

    def check(
        self, keys: list[str], *, track: str | None = None, threads: int = THREADS
    ) -> Iterator[VerifyResult]:
        """
        Read the stems of many manifests.

        :param keys: Keys of the manifests.
        :param track: Only of this track.
        :param threads: Manifests that are checked at the same time.
        """
        return in_parallel(lambda key: self._check_one(key, track), keys, threads=threads, stop=self.stop)

    def lost_manifests(self, keys: list[str]) -> Iterator[Problem]:
        """
        Find the manifests that the ledger names and the bucket does not have.

        :param keys: Keys of the manifests in the bucket.
        :raises StorageError: the ledger cannot be listed.
        """
        existing = set(keys)
        for stored in self.archive.entries():
            if stored.entry is None:
                yield Problem("unread", None, stored.uri, stored.error)
                continue
            for uri in stored.entry.landings:
                key = self.archive.destination.key_of(uri)
                if key is not None and key not in existing:
                    yield Problem("missing", stored.entry.track_key, uri, "the manifest does not exist")

    def _check_one(self, key: str, track: str | None) -> VerifyResult:
        uri, result = self.archive.destination.uri_of(key), VerifyResult()
        try:
            manifest = Manifest.from_json(self.archive.store.get(self.bucket, key), where=uri)
        except NotFoundError as e:
            return VerifyResult(problems=[Problem("missing", None, uri, str(e))])
        except StorageError as e:
            return VerifyResult(problems=[Problem("unread", None, uri, str(e))])
        except ManifestError as e:
            return VerifyResult(problems=[Problem("different", None, uri, str(e))])
        if track not in (None, manifest.track.get("key")):
            return result
        result.tracks = 1
        for stem in manifest.stems:
            problem = self._check_stem(stem, manifest, key)
            if problem:
                result.problems.append(problem)
            else:
                result.stems += 1
                result.bytes += stem.bytes
        return result

    def _check_stem(self, stem: LandedStem, manifest: Manifest, key: str) -> Problem | None:
        # A stem is read from the folder of its manifest, which may be a copy, not from the recorded address.
        track, recorded_folder = manifest.track.get("key"), manifest.uri.removesuffix(MANIFEST)
        file = stem.uri.removeprefix(recorded_folder)
        stem_key = key.removesuffix(MANIFEST) + file
        uri = self.archive.destination.uri_of(stem_key)
        if "/" in file or not file:
            manifest_uri = self.archive.destination.uri_of(key)
            message = f"{stem.name} is not in the folder of its manifest {manifest_uri}"
            return Problem("different", track, stem.uri, message)
        try:
            size, digest = self._digest(stem_key)
        except NotFoundError:
            return Problem("missing", track, uri, f"{stem.name} does not exist")
        except (StorageError, OSError) as e:
            return Problem("unread", track, uri, str(e))
        if size != stem.bytes:
            message = f"{stem.name} has {size} bytes and landed with {stem.bytes}"
            return Problem("different", track, uri, message)
        if digest != stem.sha256:
            message = f"{stem.name} has SHA-256 {digest} and landed with {stem.sha256}"
            return Problem("different", track, uri, message)
        return None

    def _digest(self, key: str) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        for block in self.archive.store.open(self.bucket, key).chunks(_BLOCK):
            if self.stop.is_set():
                raise StoppedError
            size += len(block)
            digest.update(block)
        return size, digest.hexdigest()
