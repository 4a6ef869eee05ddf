"""Landing of all stems of one separation: in parallel, each checked, the manifest last."""

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
from airflow_provider_vocalsep.landing.upload import MAX_PARTS
from airflow_provider_vocalsep.storage.errors import DestinationError, NotFoundError
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.storage.location import StemLocation
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)


class Lander:
    """
    Lands stems. One lander serves many tracks, also from several threads, with constant memory.

    :param guard: Decides which links may be downloaded.
    :param session: Session for the downloads; a new one by default. It is modified to use the guard.
    :param max_parallel: Largest number of stems that land at the same time, over all tracks.
    :param stopped: Set when the Airflow task is to stop; ends all downloads soon.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        guard: DownloadGuard,
        session: requests.Session | None = None,
        max_parallel: int = 4,
        stopped: threading.Event | None = None,
    ) -> None:
        self.resources = LandingResources(
            store=store,
            session=guarded_session(guard, session, connections=max_parallel),
            guard=guard,
            max_parallel=max_parallel,
            stem_permits=threading.Semaphore(max_parallel),
            part_permits=threading.Semaphore(MAX_PARTS),
            stopped=stopped or threading.Event(),
        )

    def land(
        self,
        task: SeparationTask,
        location: StemLocation,
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
        Land all stems of a finished vendor task. Stems that exist already are not sent again.

        :param task: The vendor's record.
        :param location: Where the stems land.
        :param track: The track, for the manifest.
        :param dialect: The vendor's API dialect, for the manifest.
        :param refresh: Reads the record again when links have expired. Called in the calling thread.
        :param asked_by: DAG, run, task, map index and try, for the manifest.
        :param entry: Address of the ledger entry, for the manifest.
        :param expected_duration: Duration of the track in seconds, if known; checks the stems to which the
            vendor's record gives no duration.
        :param replace: Send stems that exist already.
        :return: The manifest: the existing one if no stem was sent.
        :raises DestinationError: the bucket cannot be written until a person changes something.
        :raises LandingError: some stems did not land. The others landed and stay.
        """
        previous = None if replace else self._read_previous_manifest(task, location)
        outcomes = LandingPasses(
            task, location, self.resources, refresh, previous, expected_duration, replace
        ).run()
        stems = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, LandedStem))
        failures = {name: error for name, error in outcomes.items() if isinstance(error, VocalSepError)}
        if failures:
            raise _landing_error(track, location, task.task_id, failures, stems)
        absent = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, AbsentStem))
        if previous is not None and (previous.stems, previous.absent) == (stems, absent):
            return previous
        manifest = Manifest(
            track=describe_track(track),
            separation_type=location.separation_type,
            stem_name=location.stem_name,
            dialect=dialect,
            vendor_task_id=task.task_id,
            vendor_created_at=task.created_at,
            vendor_completed_at=task.completed_at,
            landed_at=datetime.now(timezone.utc),
            stems=stems,
            absent=absent,
            uri=location.manifest_uri,
            asked_by=asked_by or {},
            entry=entry,
        )
        self._write(manifest, location)
        return manifest

    def _read_previous_manifest(self, task: SeparationTask, location: StemLocation) -> Manifest | None:
        try:
            manifest = read_manifest(self.resources.store, location)
        except DestinationError as e:
            # Credentials that may only write cannot read it. Sending the stems again is always correct.
            log.info("%s Landing without the previous manifest.", e)
            return None
        return manifest if manifest and manifest.vendor_task_id == task.task_id else None

    def _write(self, manifest: Manifest, location: StemLocation) -> None:
        body = manifest.to_json()
        self.resources.store.put(
            location.bucket,
            location.manifest_key,
            body,
            content_type="application/json",
            sha256=hashlib.sha256(body).hexdigest(),
        )


def check_destination(store: ObjectStore, location: StemLocation) -> None:
    """
    Check, before any payment, that stems can be written to a location.

    :raises DestinationError: naming the bucket and the remedy.
    :raises StorageError: the bucket did not answer.
    """
    store.check_writable(location.bucket, location.manifest_key)


def read_manifest(store: ObjectStore, location: StemLocation) -> Manifest | None:
    """
    Read the manifest of a separation.

    :return: The manifest, ``None`` if it does not exist or is malformed.
    :raises DestinationError: the credentials may not read it.
    :raises StorageError: the bucket did not answer.
    """
    try:
        body = store.get(location.bucket, location.manifest_key)
        return Manifest.from_json(body, where=location.manifest_uri)
    except NotFoundError:
        return None
    except ManifestError as e:
        log.warning("%s", e)
        return None


def verify_landed(store: ObjectStore, manifest: Manifest) -> list[str]:
    """
    Check that the stems of a manifest still exist, by size and checksum, without downloading them.

    :return: Names of the stems that are missing or changed.
    :raises DestinationError: the credentials may not read the bucket.
    :raises StorageError: the bucket did not answer.
    """
    missing = []
    for stem in manifest.stems:
        found = store.head(*parse_s3_uri(stem.uri))
        if found is None or not is_unchanged(stem, found):
            missing.append(stem.name)
    return missing


def _landing_error(
    track: Track,
    location: StemLocation,
    vendor_task_id: str,
    failures: Mapping[str, VocalSepError],
    landed: tuple[LandedStem, ...],
) -> VocalSepError:
    names = tuple(stem.name for stem in landed)
    reasons = {name: str(error) for name, error in failures.items()}
    message = (
        f"Track {track.key!r}, vendor task {vendor_task_id}: {', '.join(failures)} did not land at "
        f"{location.uri}/. "
        + "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in reasons.items())
        + f". Landed and kept: {', '.join(names) or 'nothing'}. No manifest was written. A retry sends only "
        "the missing stems; nothing is paid again."
    )
    errors = list(failures.values())
    if any(isinstance(error, DestinationError) for error in errors):
        return DestinationError(message)
    if all(isinstance(error, DownloadRefusedError) for error in errors):
        return LandingRefusedError(message, failures=reasons, landed=names)
    return LandingError(message, failures=reasons, landed=names)
