"""A download host and a bucket, and landings from the one to the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType, TaskStatus
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import Lander
from airflow_provider_vocalsep.storage.location import Location, StemLocation, parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.landing.manifest import Manifest
    from tests.support.stem_host import StemHost

TASK_ID = "3e63b4cc88d52611159371f6af5571e7"


def finished_task(*links: StemLink, task_id: str = TASK_ID) -> SeparationTask:
    """Return the record of a finished vendor task with these links."""
    return SeparationTask(task_id=task_id, status=TaskStatus.SUCCESS, stems=links)


@dataclass
class LandingBench:
    """
    Lands what a host serves, and inspects the bucket.

    :param s3: A boto3 client of the bucket.
    """

    s3: S3Client
    host: StemHost
    destination: str = "s3://stems/out"
    guard: DownloadGuard = field(default_factory=lambda: DownloadGuard(allow_private_hosts=True))

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.s3)

    @property
    def base(self) -> Location:
        return Location.parse(self.destination)

    def location(
        self, key: str = "song", separation_type: SeparationType = SeparationType.SEPARATE_VOCAL
    ) -> StemLocation:
        return self.base.stems(key, separation_type)

    def serve_pair(self, vocals: bytes, instrumental: bytes, **faults: Any) -> SeparationTask:
        """
        Serve two stems and return their task.

        :param faults: Those of the vocals, see :class:`~tests.support.stem_host.HostedFile`.
        """
        return finished_task(
            StemLink("vocals", self.host.serve("/v.mp3", vocals, **faults), audio_id="v-1"),
            StemLink("instrumental", self.host.serve("/i.mp3", instrumental), audio_id="i-1"),
        )

    def land(
        self,
        task: SeparationTask,
        location: StemLocation | None = None,
        *,
        refresh: Callable[[], SeparationTask] | None = None,
        upload_args: dict[str, Any] | None = None,
        max_parallel: int = 4,
        **options: Any,
    ) -> Manifest:
        """
        Land a task.

        :param options: Further arguments of :meth:`Lander.land`.
        """
        location = location or self.location()
        store = ObjectStore(self.s3, upload_args=upload_args)
        lander = Lander(store, guard=self.guard, max_parallel=max_parallel)
        return lander.land(
            task,
            location,
            track=Track(key=location.prefix.split("/")[-2], task_id="m", audio_id="a", title="A song"),
            dialect="sunoapi",
            refresh=refresh or (lambda: task),
            asked_by={"dag_id": "d", "try_number": 1},
            **options,
        )

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below the destination, relative to it, that start with a prefix."""
        base = self.base.listing_prefix
        found = self.s3.list_objects_v2(Bucket=self.base.bucket, Prefix=base + prefix).get("Contents", [])
        return sorted(entry["Key"].removeprefix(base) for entry in found)

    def read(self, uri: str) -> bytes:
        bucket, key = parse_s3_uri(uri)
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def overwrite(self, stem_name: str, body: bytes) -> None:
        """Replace the object of an MP3 stem of the default location."""
        location = self.location()
        self.s3.put_object(Bucket=location.bucket, Key=location.stem_key(stem_name, "mp3"), Body=body)

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.base.bucket, Key=key)

    def delete_stem(self, stem_name: str) -> None:
        """Delete the object of an MP3 stem of the default location."""
        self.delete(self.location().stem_key(stem_name, "mp3"))

    def delete_manifest(self) -> None:
        """Delete the manifest of the default location."""
        self.delete(self.location().manifest_key)

    def unfinished_uploads(self) -> list[str]:
        """Return the keys below the destination with an unfinished multipart upload."""
        uploads = self.s3.list_multipart_uploads(Bucket=self.base.bucket).get("Uploads", [])
        return [upload["Key"] for upload in uploads if upload["Key"].startswith(self.base.listing_prefix)]
