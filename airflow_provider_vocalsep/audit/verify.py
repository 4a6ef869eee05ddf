"""Reading landed stems again and comparing them, byte for byte by their digest, with the manifests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.audit.bucket import (
    THREADS,
    AbsentError,
    BucketError,
    in_parallel,
    in_words,
    list_items,
    read_object,
)
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest, ManifestError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.audit.entries import Archive

#: Bytes that are in memory at a time, per thread.
_BLOCK = 1 << 20

_MANIFEST = "/manifest.json"


@dataclass(frozen=True)
class Problem:
    """
    Something that is not as it landed.

    :param kind: ``missing``, ``different``, or ``unread`` for what could not be looked at.
    :param track: Key of the track, as far as it is known.
    :param uri: The object.
    :param message: What is the matter.
    """

    kind: str
    track: str | None
    uri: str
    message: str


@dataclass
class Verdicts:
    """
    What a check has found.

    :param tracks: Manifests whose stems were read.
    :param stems: Stems that are as they landed.
    :param bytes: Bytes that were read.
    :param problems: What is not as it landed.
    """

    tracks: int = 0
    stems: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: Verdicts) -> None:
        """Add what another has found."""
        self.tracks += other.tracks
        self.stems += other.stems
        self.bytes += other.bytes
        self.problems += other.problems

    @property
    def exit_code(self) -> int:
        """0 when all is as it landed, 1 when something is missing or different, 2 when that could not be told."""
        kinds = {problem.kind for problem in self.problems}
        return 1 if kinds - {"unread"} else 2 if kinds else 0


class StoppedError(Exception):
    """Somebody has asked to stop."""


class Verifier:
    """
    Checks a destination.

    :param archive: The destination.
    :param stop: Set to end early, between two blocks of a stem.
    :param on_bytes: Told of bytes that were read; called in several threads.
    """

    def __init__(
        self, archive: Archive, stop: threading.Event, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self.archive = archive
        self.stop = stop
        self.on_bytes = on_bytes
        self.client: S3Client = archive.client
        self.bucket = archive.destination.bucket

    def manifests(self) -> list[str]:
        """
        Find the manifests.

        :return: Their keys.
        :raises BucketError: the bucket cannot be listed.
        """
        prefix = f"{self.archive.destination.prefix}/".lstrip("/")
        internal = f"{prefix}_vocalsep/"
        return [
            item.key
            for item in list_items(self.client, self.bucket, prefix)
            if item.key.endswith(_MANIFEST) and not item.key.startswith(internal)
        ]

    def check(
        self, keys: list[str], *, track: str | None = None, threads: int = THREADS
    ) -> Iterator[Verdicts]:
        """
        Read the stems of many manifests.

        :param keys: Their keys.
        :param track: Only of this track.
        :param threads: Manifests that are looked at at the same time.
        """
        return in_parallel(lambda key: self._check_one(key, track), keys, threads=threads, stop=self.stop)

    def lost_manifests(self, keys: list[str]) -> Iterator[Problem]:
        """
        Name the manifests that the ledger knows of and the bucket does not have.

        :param keys: Those that it has.
        :raises BucketError: the ledger cannot be listed.
        """
        there = set(keys)
        for found in self.archive.entries():
            if found.entry is None:
                yield Problem("unread", None, found.uri, found.trouble)
                continue
            for uri in found.entry.landings:
                key = self.archive.destination.key_of(uri)
                if key is not None and key not in there:
                    yield Problem("missing", found.entry.track_key, uri, "the manifest is not there")

    def _check_one(self, key: str, track: str | None) -> Verdicts:
        uri, verdicts = f"s3://{self.bucket}/{key}", Verdicts()
        try:
            manifest = Manifest.from_json(read_object(self.client, self.bucket, key), where=uri)
        except AbsentError as e:
            return Verdicts(problems=[Problem("missing", None, uri, str(e))])
        except BucketError as e:
            return Verdicts(problems=[Problem("unread", None, uri, str(e))])
        except ManifestError as e:
            return Verdicts(problems=[Problem("different", None, uri, str(e))])
        name = manifest.track.get("key")
        if track not in (None, name):
            return verdicts
        verdicts.tracks = 1
        for stem in manifest.stems:
            problem = self._check_stem(stem, manifest, key, name)
            if problem:
                verdicts.problems.append(problem)
            else:
                verdicts.stems += 1
                verdicts.bytes += stem.bytes
        return verdicts

    def _check_stem(self, stem: LandedStem, manifest: Manifest, key: str, name: str | None) -> Problem | None:
        # Beside its manifest, wherever that has been copied to since; never where a manifest could send us.
        folder, recorded = key.removesuffix(_MANIFEST), manifest.uri.removesuffix(_MANIFEST)
        file = stem.uri.removeprefix(f"{recorded}/")
        stem_key = f"{folder}/{file}"
        where = f"s3://{self.bucket}/{stem_key}"
        if "/" in file or not file:
            return Problem(
                "different",
                name,
                stem.uri,
                f"{stem.name} does not lie beside its manifest s3://{self.bucket}/{key}",
            )
        try:
            size, digest = self._digest(stem_key)
        except AbsentError:
            return Problem("missing", name, where, f"{stem.name} is not there")
        except (BucketError, OSError) as e:
            return Problem("unread", name, where, str(e))
        if size != stem.bytes:
            return Problem(
                "different", name, where, f"{stem.name} has {size} bytes and landed with {stem.bytes}"
            )
        if digest != stem.sha256:
            return Problem(
                "different", name, where, f"{stem.name} has SHA-256 {digest} and landed with {stem.sha256}"
            )
        return None

    def _digest(self, key: str) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        with in_words(self.bucket, key, "read"):
            body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
            for block in body.iter_chunks(_BLOCK):
                if self.stop.is_set():
                    raise StoppedError
                size += len(block)
                digest.update(block)
                self.on_bytes(len(block))
        return size, digest.hexdigest()
