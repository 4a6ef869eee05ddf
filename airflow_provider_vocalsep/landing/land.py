"""Landing all stems of one separation: in parallel, each checked, the manifest last."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.landing.errors import (
    DestinationError,
    DownloadRefusedError,
    LandingError,
    LandingRefusedError,
    LinkExpiredError,
)
from airflow_provider_vocalsep.landing.keys import parse_s3_uri
from airflow_provider_vocalsep.landing.manifest import (
    AbsentStem,
    LandedStem,
    Manifest,
    ManifestError,
    describe_track,
)
from airflow_provider_vocalsep.landing.session import guarded_session
from airflow_provider_vocalsep.landing.stem import StemOrder, Tools, is_unchanged, land_stem
from airflow_provider_vocalsep.landing.storage import (
    check_bucket,
    check_upload_args,
    head,
    is_absent,
    s3_errors,
)
from airflow_provider_vocalsep.landing.upload import MAX_PARTS, abort_upload, put_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.guard import DownloadGuard
    from airflow_provider_vocalsep.landing.keys import Place

log = logging.getLogger(__name__)

#: How often expired links are asked for anew in one landing. Twice, because the last of many large stems may have to
#: wait longer than a renewed link lives (20 minutes at kie).
_REFRESHES = 2

_Outcome = LandedStem | AbsentStem | VocalSepError


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
        s3_client: S3Client,
        *,
        guard: DownloadGuard,
        session: requests.Session | None = None,
        upload_args: Mapping[str, Any] | None = None,
        max_parallel: int = 4,
    ) -> None:
        self.s3_client = s3_client
        self.guard = guard
        self.upload_args = check_upload_args(s3_client, upload_args)
        self.session = guarded_session(guard, session, connections=max(max_parallel, 4))
        self.max_parallel = max_parallel
        self._turns = threading.Semaphore(max_parallel)
        self._permits = threading.Semaphore(MAX_PARTS)

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
        """
        Land all stems of a finished task; what is there already is not sent again.

        :param task: The vendor's record.
        :param place: Where the stems belong.
        :param track: What was separated, for the manifest.
        :param dialect: Which vendor did it, for the manifest.
        :param refresh: Reads the record again, when links have expired. Called in the calling thread.
        :param asked_by: DAG, run, task, map index and try, for the manifest.
        :param expected_duration: Length of the track in seconds, if known; stems are checked against it where the
            vendor's record gives none.
        :param replace: Send stems that are there already.
        :return: The manifest; when nothing had to be sent, the one that is there.
        :raises DestinationError: the bucket cannot be written until a person changes something.
        :raises LandingError: some stems did not land. The others did and stay.
        """
        landing = _Landing(self, task, place, refresh, expected_duration, replace)
        outcomes = landing.run()
        stems = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, LandedStem))
        failures = {name: error for name, error in outcomes.items() if isinstance(error, VocalSepError)}
        if failures:
            raise _failed(track, place, task.task_id, failures, stems)
        absent = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, AbsentStem))
        before = landing.before
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
        )
        self._write(manifest, place)
        return manifest

    def _write(self, manifest: Manifest, place: Place) -> None:
        # An archived manifest could not be read.
        arguments = {name: value for name, value in self.upload_args.items() if name != "StorageClass"}
        body = manifest.to_json()
        put_object(
            self.s3_client,
            place.bucket,
            place.manifest_key,
            memoryview(body),
            hashlib.sha256(body).hexdigest(),
            {**arguments, "ContentType": "application/json"},
        )

    def _move(self, order: StemOrder, tools: Tools) -> _Outcome:
        with self._turns:
            try:
                return land_stem(order, tools)
            except VocalSepError as e:
                log.warning("Stem %s of vendor task %s: %s", order.stem.name, order.vendor_task_id, e)
                return e


class _Landing:
    """One call of :meth:`Lander.land`."""

    def __init__(
        self,
        lander: Lander,
        task: SeparationTask,
        place: Place,
        refresh: Callable[[], SeparationTask],
        expected_duration: float | None,
        replace: bool,
    ) -> None:
        self.lander = lander
        self.task = task
        self.place = place
        self.refresh = refresh
        self.expected_duration = expected_duration
        self.replace = replace
        self.promised = _promised(place.separation_type)
        self.before = None if replace else self._manifest_before()

    def run(self) -> dict[str, _Outcome]:
        """Return what became of every stem, in the order of the record."""
        if self._lacks_links():
            self.task = self.refresh()
        outcomes: dict[str, _Outcome] = {}
        pending: Iterable[StemLink] = self.task.stems
        for refreshes_left in range(_REFRESHES, -1, -1):
            outcomes.update(self._round(pending))
            expired = {name for name, outcome in outcomes.items() if isinstance(outcome, LinkExpiredError)}
            if not expired or not refreshes_left:
                break
            log.info("Links of %s have expired: asking for new ones.", ", ".join(sorted(expired)))
            try:
                pending = [stem for stem in self.refresh().present if stem.name in expired]
            except VocalSepError as e:
                for name in expired:
                    outcomes[name] = LinkExpiredError(f"{outcomes[name]} Asking for a new one failed: {e}")
                break
        return self._judged(outcomes)

    def _round(self, stems: Iterable[StemLink]) -> dict[str, _Outcome]:
        stems = list(stems)
        outcomes: dict[str, _Outcome] = {
            stem.name: AbsentStem(name=stem.name, reason="the vendor's record has no link to it")
            for stem in stems
        }
        present = [stem for stem in stems if stem.url]
        for name, count in Counter(stem.name for stem in present).items():
            if count > 1:
                outcomes[name] = LandingError(f"the record links it {count} times", failures={})
                present = [stem for stem in present if stem.name != name]
        if present:
            outcomes.update(self._move_all(present))
        return outcomes

    def _move_all(self, stems: list[StemLink]) -> dict[str, _Outcome]:
        lander, stopped = self.lander, threading.Event()
        workers = min(len(stems), lander.max_parallel)
        with (
            ThreadPoolExecutor(MAX_PARTS, thread_name_prefix="parts") as senders,
            ThreadPoolExecutor(workers, thread_name_prefix="stems") as movers,
        ):
            tools = Tools(
                client=lander.s3_client,
                session=lander.session,
                guard=lander.guard,
                permits=lander._permits,
                executor=senders,
                stopped=stopped,
                upload_args=lander.upload_args,
            )
            futures = {stem.name: movers.submit(lander._move, self._order(stem), tools) for stem in stems}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                # A time-out or kill of the Airflow task arrives here: the threads must not go on for an hour.
                stopped.set()
                raise

    def _order(self, stem: StemLink) -> StemOrder:
        return StemOrder(
            stem=stem,
            place=self.place,
            vendor_task_id=self.task.task_id,
            expected_duration=self.expected_duration,
            before=self.before.stem(stem.name) if self.before else None,
            replace=self.replace,
        )

    def _judged(self, outcomes: dict[str, _Outcome]) -> dict[str, _Outcome]:
        """Turn absences into failures where the separation type promises the stem."""
        for name in self.promised:
            outcome = outcomes.get(name)
            if outcome is None or isinstance(outcome, AbsentStem):
                why = outcome.reason if outcome else "the vendor's record does not name it"
                outcomes[name] = LandingError(
                    f"{self.place.separation_type} promises it, but {why}", failures={}
                )
        if all(isinstance(outcome, AbsentStem) for outcome in outcomes.values()):
            return {
                "every stem": LandingError("the vendor calls the task finished and offers none", failures={})
            }
        for stem in EXPECTED_STEMS.get(self.place.separation_type, ()):
            if stem.value not in outcomes:
                outcomes[stem.value] = AbsentStem(
                    name=stem.value, reason="the vendor's record does not name it"
                )
        return outcomes

    def _lacks_links(self) -> bool:
        present = {stem.name for stem in self.task.present}
        return not present or not present.issuperset(self.promised)

    def _manifest_before(self) -> Manifest | None:
        try:
            manifest = read_manifest(self.lander.s3_client, self.place)
        except DestinationError as e:
            # Who may only write cannot look; sending anew is always right.
            log.info("%s The stems are sent anew.", e)
            return None
        return manifest if manifest and manifest.vendor_task_id == self.task.task_id else None


def check_destination(
    s3_client: S3Client, place: Place, *, upload_args: Mapping[str, Any] | None = None
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
    arguments = check_upload_args(s3_client, upload_args)
    check_bucket(s3_client, place.bucket)
    with s3_errors(place.bucket, place.manifest_key, "write"):
        upload = s3_client.create_multipart_upload(Bucket=place.bucket, Key=place.manifest_key, **arguments)
    abort_upload(s3_client, place.bucket, place.manifest_key, upload["UploadId"])


def read_manifest(s3_client: S3Client, place: Place) -> Manifest | None:
    """
    Read the manifest of a place.

    :return: The manifest, ``None`` if there is none (that can be read as one).
    :raises DestinationError: it may not be read.
    :raises StorageError: the bucket did not answer.
    """
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


def verify_landed(s3_client: S3Client, manifest: Manifest) -> list[str]:
    """
    Look whether what landed is still there, by size and checksum, without downloading it.

    :return: Names of the stems that are missing or changed.
    :raises DestinationError: the bucket may not be looked at.
    :raises StorageError: the bucket did not answer.
    """
    lost = []
    for stem in manifest.stems:
        found = head(s3_client, *parse_s3_uri(stem.uri))
        if found is None or not is_unchanged(stem, found):
            lost.append(stem.name)
    return lost


def _promised(separation_type: SeparationType) -> tuple[str, ...]:
    """Return the stems without which a separation is not complete; the others may be empty."""
    if separation_type is SeparationType.SEPARATE_VOCAL:
        return tuple(stem.value for stem in EXPECTED_STEMS[separation_type])
    return ()


def _failed(
    track: Track,
    place: Place,
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
