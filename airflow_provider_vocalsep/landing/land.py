"""Landing all stems of one separation: in parallel, each checked, the manifest last."""

from __future__ import annotations

import hashlib
import logging
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.landing.errors import DownloadRefusedError, LandingError, LandingRefusedError
from airflow_provider_vocalsep.landing.manifest import (
    AbsentStem,
    LandedStem,
    Manifest,
    ManifestError,
    describe_track,
)
from airflow_provider_vocalsep.landing.passes import LandingPasses
from airflow_provider_vocalsep.landing.session import guarded_session
from airflow_provider_vocalsep.landing.stem_lander import LandingResources, is_unchanged
from airflow_provider_vocalsep.landing.storage import (
    check_bucket,
    check_upload_args,
    head,
    is_absent,
    s3_errors,
)
from airflow_provider_vocalsep.landing.upload import MAX_PARTS, abort_upload, put_object
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.storage.location import StemLocation

log = logging.getLogger(__name__)


class Lander:
    """
    Lands stems. One lander serves many tracks, also from several threads; its memory does not depend on how many.

    :param s3_client: A boto3 S3 client.
    :param guard: Decides which links may be downloaded.
    :param session: Session to download with; a new one by default. The guard is put in front of it.
    :param upload_args: Further arguments of every upload, as boto3's ``ExtraArgs``: ServerSideEncryption,
        SSEKMSKeyId, StorageClass, Tagging, ACL, Metadata, ...
    :param max_parallel: Stems that are moved at the same time, over all tracks.
    :raises DestinationError: ``upload_args`` holds something that cannot be passed.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        guard: DownloadGuard,
        session: requests.Session | None = None,
        upload_args: Mapping[str, Any] | None = None,
        max_parallel: int = 4,
    ) -> None:
        s3_client = store.client
        self.upload_args = dict(upload_args or {})
        self.tools = LandingResources(
            client=s3_client,
            session=guarded_session(guard, session, connections=max_parallel),
            guard=guard,
            upload_args=check_upload_args(s3_client, upload_args),
            max_parallel=max_parallel,
            turns=threading.Semaphore(max_parallel),
            permits=threading.Semaphore(MAX_PARTS),
        )

    def land(
        self,
        task: SeparationTask,
        place: StemLocation,
        *,
        track: Track,
        dialect: str,
        refresh: Callable[[], SeparationTask],
        asked_by: dict[str, Any] | None = None,
        entry: str | None = None,
        expected_duration: float | None = None,
        replace: bool = False,
    ) -> Manifest:
        """
        Land all stems of a finished task; what is there already is not sent again.

        :param task: The vendor's record.
        :param place: Where the stems belong.
        :param track: What was separated, for the manifest.
        :param dialect: Which vendor did it, for the manifest.
        :param refresh: Reads the record again, when links have expired. Called in the calling thread.
        :param asked_by: DAG, run, task, map index and try, for the manifest.
        :param entry: Address of its ledger entry, for the manifest.
        :param expected_duration: Length of the track in seconds, if known; stems are checked against it where the
            vendor's record gives none.
        :param replace: Send stems that are there already.
        :return: The manifest; when nothing had to be sent, the one that is there.
        :raises DestinationError: the bucket cannot be written until a person changes something.
        :raises LandingError: some stems did not land. The others did and stay.
        """
        before = None if replace else self._manifest_before(task, place)
        outcomes = LandingPasses(
            task, place, self.tools, refresh, before, expected_duration=expected_duration, replace=replace
        ).run()
        stems = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, LandedStem))
        failures = {name: error for name, error in outcomes.items() if isinstance(error, VocalSepError)}
        if failures:
            raise _failed(track, place, task.task_id, failures, stems)
        absent = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, AbsentStem))
        if before is not None and (before.stems, before.absent) == (stems, absent):
            return before
        manifest = Manifest(
            track=describe_track(track),
            separation_type=place.separation_type,
            stem_name=place.stem_name,
            dialect=dialect,
            vendor_task_id=task.task_id,
            vendor_created_at=task.created_at,
            vendor_completed_at=task.completed_at,
            landed_at=datetime.now(timezone.utc),
            stems=stems,
            absent=absent,
            uri=place.manifest_uri,
            asked_by=asked_by or {},
            entry=entry,
        )
        self._write(manifest, place)
        return manifest

    def _manifest_before(self, task: SeparationTask, place: StemLocation) -> Manifest | None:
        try:
            manifest = read_manifest(ObjectStore(self.tools.client), place)
        except DestinationError as e:
            # Who may only write cannot look; sending anew is always right.
            log.info("%s The stems are sent anew.", e)
            return None
        return manifest if manifest and manifest.vendor_task_id == task.task_id else None

    def _write(self, manifest: Manifest, place: StemLocation) -> None:
        # An archived manifest could not be read.
        arguments = {name: value for name, value in self.tools.upload_args.items() if name != "StorageClass"}
        body = manifest.to_json()
        put_object(
            self.tools.client,
            place.bucket,
            place.manifest_key,
            memoryview(body),
            hashlib.sha256(body).hexdigest(),
            {**arguments, "ContentType": "application/json"},
        )


def check_destination(
    store: ObjectStore, place: StemLocation, *, upload_args: Mapping[str, Any] | None = None
) -> None:
    """
    Make sure, before anything is paid, that stems can be written to their place.

    Begins a multipart upload there and takes it back: this needs exactly the permission that landing needs, and
    leaves nothing behind. Some stores would create a missing bucket for it, so the bucket is looked at first; who
    may not look may still write.

    :param upload_args: What the uploads are told; a bucket may demand encryption or an ACL.
    :raises DestinationError: naming the bucket and the remedy.
    :raises StorageError: the bucket did not answer.
    """
    s3_client = store.client
    arguments = check_upload_args(s3_client, upload_args)
    check_bucket(s3_client, place.bucket)
    with s3_errors(place.bucket, place.manifest_key, "write"):
        upload = s3_client.create_multipart_upload(Bucket=place.bucket, Key=place.manifest_key, **arguments)
    abort_upload(s3_client, place.bucket, place.manifest_key, upload["UploadId"])


def read_manifest(store: ObjectStore, place: StemLocation) -> Manifest | None:
    """
    Read the manifest of a place.

    :return: The manifest, ``None`` if there is none (that can be read as one).
    :raises DestinationError: it may not be read.
    :raises StorageError: the bucket did not answer.
    """
    s3_client = store.client
    try:
        with s3_errors(place.bucket, place.manifest_key, "read"):
            body = s3_client.get_object(Bucket=place.bucket, Key=place.manifest_key)["Body"].read()
    except DestinationError as e:
        if is_absent(e.__cause__):
            return None
        raise
    try:
        return Manifest.from_json(body, where=place.manifest_uri)
    except ManifestError as e:
        log.warning("%s", e)
        return None


def verify_landed(store: ObjectStore, manifest: Manifest) -> list[str]:
    """
    Look whether what landed is still there, by size and checksum, without downloading it.

    :return: Names of the stems that are missing or changed.
    :raises DestinationError: the bucket may not be looked at.
    :raises StorageError: the bucket did not answer.
    """
    s3_client = store.client
    lost = []
    for stem in manifest.stems:
        found = head(s3_client, *parse_s3_uri(stem.uri))
        if found is None or not is_unchanged(stem, found):
            lost.append(stem.name)
    return lost


def _failed(
    track: Track,
    place: StemLocation,
    vendor_task_id: str,
    failures: Mapping[str, VocalSepError],
    landed: tuple[LandedStem, ...],
) -> VocalSepError:
    names = tuple(stem.name for stem in landed)
    reasons = {name: str(error) for name, error in failures.items()}
    message = (
        f"Track {track.key!r}, vendor task {vendor_task_id}: {', '.join(failures)} did not land at "
        f"{place.uri_of(place.prefix)}/. "
        + "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in reasons.items())
        + f". Landed and kept: {', '.join(names) or 'nothing'}. No manifest was written. A retry sends only what is "
        "missing; nothing is paid again."
    )
    errors = list(failures.values())
    if any(isinstance(error, DestinationError) for error in errors):
        return DestinationError(message)
    if all(isinstance(error, DownloadRefusedError) for error in errors):
        return LandingRefusedError(message, failures=reasons, landed=names)
    return LandingError(message, failures=reasons, landed=names)
