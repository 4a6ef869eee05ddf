"""A landing to play with: a host, a bucket, and the words between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType, TaskStatus
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import Lander
from airflow_provider_vocalsep.storage.location import Location, StemLocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from landing_host import StemHost
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.landing.manifest import Manifest

TASK_ID = "3e63b4cc88d52611159371f6af5571e7"


def task_of(*links: StemLink, task_id: str = TASK_ID) -> SeparationTask:
    return SeparationTask(task_id=task_id, status=TaskStatus.SUCCESS, stems=links)


@dataclass
class World:
    s3: S3Client
    host: StemHost
    destination: str = "s3://stems/out"
    guard: DownloadGuard = field(default_factory=lambda: DownloadGuard(allow_private_hosts=True))

    def place(
        self, key: str = "song", separation_type: SeparationType = SeparationType.SEPARATE_VOCAL, **more: Any
    ) -> StemLocation:
        return Location.parse(self.destination).stems(key, separation_type, **more)

    def pair(self, vocals: bytes, instrumental: bytes, **how: Any) -> SeparationTask:
        return task_of(
            StemLink("vocals", self.host.serve("/v.mp3", vocals, **how), audio_id="v-1"),
            StemLink("instrumental", self.host.serve("/i.mp3", instrumental), audio_id="i-1"),
        )

    def land(
        self,
        task: SeparationTask,
        place: StemLocation | None = None,
        *,
        refresh: Callable[[], SeparationTask] | None = None,
        upload_args: dict[str, Any] | None = None,
        max_parallel: int = 4,
        **more: Any,
    ) -> Manifest:
        place = place or self.place()
        lander = Lander(self.s3, guard=self.guard, upload_args=upload_args, max_parallel=max_parallel)
        return lander.land(
            task,
            place,
            track=Track(key=place.prefix.split("/")[-2], task_id="m", audio_id="a", title="A song"),
            dialect="sunoapi",
            refresh=refresh or (lambda: task),
            asked_by={"dag_id": "d", "try_number": 1},
            **more,
        )

    def keys(self, prefix: str = "") -> list[str]:
        bucket, base = self.destination.removeprefix("s3://").split("/", 1)
        found = self.s3.list_objects_v2(Bucket=bucket, Prefix=f"{base}/{prefix}").get("Contents", [])
        return sorted(entry["Key"].removeprefix(f"{base}/") for entry in found)

    def read(self, uri: str) -> bytes:
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def unfinished_uploads(self) -> list[str]:
        bucket = self.destination.removeprefix("s3://").split("/", 1)[0]
        return [u["Key"] for u in self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
