"""Places in a bucket: where the stems of a track land, and where ledger, plans and run reports lie."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_vocalsep.api.requests import slug_of
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.keys import safe_key, safe_segment

#: Folder below a destination that holds everything but stems and manifests.
INTERNAL = "_vocalsep"

#: Name of the object that says that a separation is complete.
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
        :raises DestinationError: it is not an address in S3.
        """
        bucket, prefix = parse_s3_uri(uri)
        return Location(bucket, prefix.strip("/"))

    @property
    def uri(self) -> str:
        """Its address, without a slash at the end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def listing_prefix(self) -> str:
        """What the keys of all objects in it start with, with a slash at the end; empty for the whole bucket."""
        return f"{self.prefix}/" if self.prefix else ""

    def key(self, *parts: str) -> str:
        """Return the key of an object in it."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def uri_of(self, key: str) -> str:
        """Return the address of an object in the bucket, by its whole key."""
        return f"s3://{self.bucket}/{key}"

    def folder(self, *parts: str) -> Location:
        """Return a folder in it."""
        return Location(self.bucket, self.key(*parts))

    def key_of(self, uri: str | None) -> str | None:
        """
        Return the key of an object that lies in it.

        :param uri: Its address, out of a file that anybody may have written.
        :return: ``None`` for whatever is not an object in this folder.
        """
        try:
            bucket, key = parse_s3_uri(uri or "")
        except DestinationError:
            return None
        # A store that is a file system underneath would climb.
        climbs = {"", ".", ".."} & set(key.split("/"))
        return key if bucket == self.bucket and key.startswith(self.listing_prefix) and not climbs else None

    @property
    def ledger(self) -> Location:
        """The ledger of this destination, where nobody chose another place."""
        return self.folder(INTERNAL, "ledger")

    @property
    def runs(self) -> Location:
        """Plans and run reports of this destination, by DAG, DAG run and Airflow task."""
        return self.folder(INTERNAL, "runs")

    def run_folder(self, dag_id: str, run_id: str, task_id: str) -> Location:
        """Return the folder of plan and run reports of an Airflow task in a DAG run."""
        return self.runs.folder(run_key(dag_id, run_id), safe_key(task_id))

    def is_manifest(self, key: str) -> bool:
        """Return whether a key is that of a manifest of this destination."""
        return key.endswith(f"/{MANIFEST}") and not key.startswith(self.folder(INTERNAL).listing_prefix)

    def stems(
        self, track_key: str, separation_type: SeparationType, stem_name: str | None = None
    ) -> StemLocation:
        """
        Return where the stems of a track land.

        :param track_key: The user's name of the track.
        :param separation_type: What it is separated into.
        :param stem_name: The stem asked for with ``split_stem_advanced``.
        """
        parts = [safe_key(track_key), separation_type.value]
        if separation_type is SeparationType.SPLIT_STEM_ADVANCED:
            # Every stem name is a separation of its own, with a manifest of its own.
            parts.append(slug_of(stem_name or "") or "stem")
        return StemLocation(self.bucket, self.key(*parts), separation_type, stem_name)


@dataclass(frozen=True)
class StemLocation(Location):
    """
    The folder in which the stems and the manifest of one separation land.

    :param separation_type: What the track is separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    """

    separation_type: SeparationType
    stem_name: str | None = None

    @property
    def manifest_key(self) -> str:
        """Key of the manifest; that it exists means that the separation is complete."""
        return self.key(MANIFEST)

    @property
    def manifest_uri(self) -> str:
        """Address of the manifest."""
        return self.uri_of(self.manifest_key)

    def stem_key(self, name: str, extension: str) -> str:
        """
        Return the key of a stem.

        :param name: Name of the stem.
        :param extension: File type, without a dot.
        """
        return self.key(f"{safe_segment(name)}.{extension}")


def run_key(dag_id: str, run_id: str) -> str:
    """Return the folder of a DAG run below :attr:`Location.runs`, as part of a key."""
    return f"{safe_key(dag_id)}/{safe_key(run_id)}"
