"""Landing all stems of one separation: in parallel, each checked, the manifest last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.landing.keys import Place
    from airflow_provider_vocalsep.landing.manifest import Manifest


class Lander:
    """Lands stems."""

    def __init__(
        self,
        s3_client: S3Client,
        *,
        guard: DownloadGuard,
        session: requests.Session | None = None,
        upload_args: Mapping[str, Any] | None = None,
        max_parallel: int = 4,
    ) -> None:
        raise NotImplementedError

    def land(
        self,
        task: SeparationTask,
        place: Place,
        *,
        track: Track,
        dialect: str,
        refresh: Callable[[], SeparationTask],
        asked_by: dict[str, Any] | None = None,
        expected_duration: float | None = None,
        replace: bool = False,
    ) -> Manifest:
        """Land all present stems of a finished task."""
        raise NotImplementedError


def check_destination(
    s3_client: S3Client, place: Place, *, upload_args: Mapping[str, Any] | None = None
) -> None:
    """Make sure, before anything is paid, that stems can be written to their place."""
    raise NotImplementedError


def read_manifest(s3_client: S3Client, place: Place) -> Manifest | None:
    """Read the manifest of a place."""
    raise NotImplementedError


def verify_landed(s3_client: S3Client, manifest: Manifest) -> list[str]:
    """Return the names of stems that are missing or changed."""
    raise NotImplementedError
