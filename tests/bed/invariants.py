"""Checks by books, ledger and the bytes of every stem that no track was paid twice, lost or corrupted."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger.entry import EntryState, LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mypy_boto3_s3 import S3Client

#: Number of objects that are read in parallel.
PARALLEL = 8

#: Ledger states of a separation in progress.
IN_PROGRESS = (EntryState.CLAIMED, EntryState.SUBMITTED, EntryState.SEPARATED)


@dataclass(frozen=True)
class InvariantReport:
    """
    Counts over the planned tracks of a catalogue. Each track is landed, failed, claimed or lost.

    :param landed: Tracks with a manifest.
    :param failed: Tracks without a manifest whose ledger state is ``failed``.
    :param claimed: Tracks without a manifest whose separation is in progress according to the ledger.
    :param charges: Separations that the vendor charged.
    :param double_charges: Charges of a track beyond the first, except after a vendor task that failed.
    :param lost: Tracks without a manifest and without a usable ledger entry.
    :param corrupted: Stems whose bytes differ from their digest in the manifest.
    :param history_gaps: Messages about what is missing in the ledger's histories.
    """

    planned: int
    landed: int
    failed: int
    claimed: int
    charges: int
    double_charges: int
    lost: int
    corrupted: int
    history_gaps: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no track was paid twice, lost or corrupted, and every history is complete."""
        return not (self.double_charges or self.lost or self.corrupted or self.history_gaps)


def check_invariants(
    client: S3Client, bucket: str, prefix: str, planned: Collection[str], books: Mapping[str, Any]
) -> InvariantReport:
    """
    Check everything below a destination.

    During a run, ``lost`` also counts the tracks that have not started.

    :param prefix: Prefix of the destination; the ledger is below it, as by default.
    :param planned: Sources of the tracks, ``task_id/audio_id``.
    :param books: Answer of ``GET /sandbox/books``.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(key: str) -> bytes:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()

    with ThreadPoolExecutor(PARALLEL) as pool:
        ledger = f"{prefix}/_vocalsep/ledger/"
        entries = {
            entry.source: entry
            for entry in map(
                LedgerEntry.model_validate_json,
                pool.map(read, [key for key in keys if key.startswith(ledger) and key.endswith(".json")]),
            )
            if entry.source in planned
        }
        found = [key for key in keys if key.endswith("/manifest.json")]
        manifests = {
            source_of(manifest): manifest
            for manifest in map(_parse_manifest, pool.map(read, found), found)
            if source_of(manifest) in planned
        }
        stems = [stem for manifest in manifests.values() for stem in manifest.stems]
        corrupted = sum(pool.map(lambda stem: not _is_intact(client, stem.uri, stem.sha256), stems))
    tasks = _group_by_source(books["tasks"], planned)
    states = {source: entry.state for source, entry in entries.items() if source not in manifests}
    failed = sum(state is EntryState.FAILED for state in states.values())
    claimed = sum(state in IN_PROGRESS for state in states.values())
    return InvariantReport(
        planned=len(planned),
        landed=len(manifests),
        failed=failed,
        claimed=claimed,
        charges=sum(map(len, tasks.values())),
        double_charges=sum(max(0, _count_not_failed(rows) - 1) for rows in tasks.values()),
        lost=len(planned) - len(manifests) - failed - claimed,
        corrupted=corrupted,
        history_gaps=tuple(
            gap
            for source in planned
            for gap in find_history_gaps(
                source, entries.get(source), tasks.get(source, ()), manifests.get(source)
            )
        ),
    )


def source_of(manifest: Manifest) -> str:
    """Return the source of a generated track, as the ledger and the books write it."""
    return f"{manifest.track['task_id']}/{manifest.track['audio_id']}"


def find_history_gaps(
    source: str, entry: LedgerEntry | None, tasks: Sequence[Mapping[str, Any]], manifest: Manifest | None
) -> list[str]:
    """
    Return a message for each event that is missing in a track's history.

    :param tasks: Rows of the track in the vendor's books.
    """
    if entry is None:
        return [f"{source}: charged or landed, but not in the ledger"] if tasks or manifest else []
    gaps = []
    # The ledger records a callback when its task next runs, with the time at which it was delivered.
    times = [event.at for event in entry.history if event.event != "called_back"]
    if times != sorted(times):
        gaps.append(f"{source}: the history is not in order")
    events = {(event.event, event.attempt_id) for event in entry.history}
    known = {attempt.vendor_task_id for attempt in entry.attempts}
    for attempt in entry.attempts:
        if ("claimed", attempt.attempt_id) not in events:
            gaps.append(f"{source}: attempt {attempt.attempt_id} has no claim")
        origins = {("submitted", attempt.attempt_id), ("adopted", attempt.attempt_id)}
        if attempt.vendor_task_id and not origins & events:
            gaps.append(
                f"{source}: attempt {attempt.attempt_id} has a vendor task, but no submit or adoption"
            )
    # Until its answer is recorded, a submit's vendor task may be missing in the ledger.
    if entry.state is not EntryState.CLAIMED:
        gaps += [
            f"{source}: charged for vendor task {task['vendor_task_id']}, which is not in the ledger"
            for task in tasks
            if task["vendor_task_id"] not in known
            and not any(a.vendor_task_id is None for a in entry.attempts)
        ]
    if manifest is not None and manifest.vendor_task_id not in known:
        gaps.append(
            f"{source}: landed from vendor task {manifest.vendor_task_id}, which is not in the ledger"
        )
    if entry.state is EntryState.LANDED and (manifest is None or not any(e == "landed" for e, _ in events)):
        gaps.append(f"{source}: state landed without a manifest or without the event")
    return gaps


def _parse_manifest(body: bytes, key: str) -> Manifest:
    return Manifest.from_json(body, where=key)


def _is_intact(client: S3Client, uri: str, sha256: str) -> bool:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError:
        return False
    return hashlib.sha256(body).hexdigest() == sha256


def _group_by_source(
    tasks: Sequence[Mapping[str, Any]], planned: Collection[str]
) -> dict[str, list[Mapping[str, Any]]]:
    found = defaultdict(list)
    for task in tasks:
        if task["source"] in planned:
            found[task["source"]].append(task)
    return dict(found)


def _count_not_failed(tasks: Sequence[Mapping[str, Any]]) -> int:
    return sum(not str(task["status"]).endswith("FAILED") for task in tasks)
