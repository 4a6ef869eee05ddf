"""Locations in a bucket: of a track's stems, of the ledger, of plans and run reports."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_vocalsep.api.requests import slug_of
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.keys import safe_key, safe_segment

#: Folder of a destination for everything but stems and manifests.
INTERNAL = "_vocalsep"

#: Name of the object that marks a separation as complete.
MANIFEST = "manifest.json"


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
        raise DestinationError(f"{uri!r} is not an address in S3: write it as s3://bucket/prefix.")
    return bucket, key


@dataclass(frozen=True)
class Location:
    """
    A folder in a bucket.

    :param bucket: Name of the bucket.
    :param prefix: Key prefix without a slash at either end; empty for the whole bucket.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Location:
        """
        Parse the address of a folder.

        :param uri: ``s3://bucket/prefix``.
        :raises DestinationError: the address is not in S3.
        """
        bucket, prefix = parse_s3_uri(uri)
        return Location(bucket, prefix.strip("/"))

    @property
    def uri(self) -> str:
        """Address of the folder, without a slash at the end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def listing_prefix(self) -> str:
        """Prefix of the keys of all its objects, with a slash at the end; empty for the whole bucket."""
        return f"{self.prefix}/" if self.prefix else ""

    def key(self, *parts: str) -> str:
        """Return the key of an object in the folder."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def uri_of(self, key: str) -> str:
        """Return the address of an object in the bucket by its full key."""
        return f"s3://{self.bucket}/{key}"

    def folder(self, *parts: str) -> Location:
        """Return a folder below this one."""
        return Location(self.bucket, self.key(*parts))

    def key_of(self, uri: str | None) -> str | None:
        """
        Return the key of an object in the folder.

        :param uri: Address of the object, untrusted.
        :return: ``None`` if it is not the address of an object in this folder.
        """
        try:
            bucket, key = parse_s3_uri(uri or "")
        except DestinationError:
            return None
        # A store on top of a file system would leave the folder.
        climbs = {"", ".", ".."} & set(key.split("/"))
        return key if bucket == self.bucket and key.startswith(self.listing_prefix) and not climbs else None

    @property
    def ledger(self) -> Location:
        """The default ledger of this destination."""
        return self.folder(INTERNAL, "ledger")

    @property
    def runs(self) -> Location:
        """The plans and run reports of this destination, by DAG, DAG run and Airflow task."""
        return self.folder(INTERNAL, "runs")

    def run_folder(self, dag_id: str, run_id: str, task_id: str) -> Location:
        """Return the folder of plan and run reports of an Airflow task in a DAG run."""
        return self.runs.folder(run_key(dag_id, run_id), safe_key(task_id))

    def is_manifest(self, key: str) -> bool:
        """Return whether a key belongs to a manifest of this destination."""
        return key.endswith(f"/{MANIFEST}") and not key.startswith(self.folder(INTERNAL).listing_prefix)

    def stems(
        self, track_key: str, separation_type: SeparationType, stem_name: str | None = None
    ) -> StemLocation:
        """
        Return the location of a track's stems.

        :param track_key: The user's name of the track.
        :param stem_name: The requested stem of ``split_stem_advanced``.
        """
        parts = [safe_key(track_key), separation_type.value]
        if separation_type is SeparationType.SPLIT_STEM_ADVANCED:
            # Each stem name is a separation with its own manifest.
            parts.append(slug_of(stem_name or "") or "stem")
        return StemLocation(self.bucket, self.key(*parts), separation_type, stem_name)


@dataclass(frozen=True)
class StemLocation(Location):
    """
    The folder of the stems and the manifest of one separation.

    :param separation_type: Type of the separation.
    :param stem_name: The requested stem of ``split_stem_advanced``.
    """

    separation_type: SeparationType
    stem_name: str | None = None

    @property
    def manifest_key(self) -> str:
        """Key of the manifest, which exists if the separation is complete."""
        return self.key(MANIFEST)

    @property
    def manifest_uri(self) -> str:
        """Address of the manifest."""
        return self.uri_of(self.manifest_key)

    def stem_key(self, name: str, extension: str) -> str:
        """
        Return the key of a stem.

        :param extension: File type, without a dot.
        """
        return self.key(f"{safe_segment(name)}.{extension}")


def run_key(dag_id: str, run_id: str) -> str:
    """Return the part of a key that names a DAG run below :attr:`Location.runs`."""
    return f"{safe_key(dag_id)}/{safe_key(run_id)}"
