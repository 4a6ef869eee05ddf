"""What a catalogue came to, by the vendor's books, the ledger and every byte in the bucket."""

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

#: Objects that are read at once.
PARALLEL = 8

#: States of the ledger in which a separation is under way.
UNDER_WAY = (EntryState.CLAIMED, EntryState.SUBMITTED, EntryState.SEPARATED)


@dataclass(frozen=True)
class Audit:
    """
    What became of the planned tracks; each is landed, failed, claimed or lost.

    :param planned: Tracks that were to be separated.
    :param landed: Those with a manifest.
    :param failed: Those that the ledger says failed.
    :param claimed: Those that the ledger says are under way.
    :param charges: Separations that the vendor charged.
    :param double_charges: Charges beyond the first of a track, but for those that followed a vendor task that failed.
    :param lost: Tracks of which neither ledger nor bucket knows.
    :param corrupted: Stems in a manifest that are not the bytes that it says.
    :param history_gaps: What is missing in the ledger's histories, in words.
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
    def sound(self) -> bool:
        """Whether nothing was paid twice, lost, corrupted or left out of a history."""
        return not (self.double_charges or self.lost or self.corrupted or self.history_gaps)


def audit(
    client: S3Client, bucket: str, prefix: str, planned: Collection[str], books: Mapping[str, Any]
) -> Audit:
    """
    Look at everything below a destination.

    It may be asked in the middle of a run, too; ``lost`` then counts what waits for its turn.

    :param client: Client of the object storage.
    :param bucket: The bucket.
    :param prefix: The destination in it; the ledger is below it, as it is by default.
    :param planned: The tracks' sources, ``task_id/audio_id``.
    :param books: The vendor's books, ``GET /sandbox/books``.
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
            for manifest in map(_manifest, pool.map(read, found), found)
            if source_of(manifest) in planned
        }
        stems = [stem for manifest in manifests.values() for stem in manifest.stems]
        corrupted = sum(pool.map(lambda stem: not _is_true(client, stem.uri, stem.sha256), stems))
    tasks = _by_source(books["tasks"], planned)
    states = {source: entry.state for source, entry in entries.items() if source not in manifests}
    failed = sum(state is EntryState.FAILED for state in states.values())
    claimed = sum(state in UNDER_WAY for state in states.values())
    return Audit(
        planned=len(planned),
        landed=len(manifests),
        failed=failed,
        claimed=claimed,
        charges=sum(map(len, tasks.values())),
        double_charges=sum(max(0, _not_failed(rows) - 1) for rows in tasks.values()),
        lost=len(planned) - len(manifests) - failed - claimed,
        corrupted=corrupted,
        history_gaps=tuple(
            gap
            for source in planned
            for gap in history_gaps(source, entries.get(source), tasks.get(source, ()), manifests.get(source))
        ),
    )


def source_of(manifest: Manifest) -> str:
    """
    Name the source of a generated track as the ledger and the books do.

    :param manifest: Its manifest.
    """
    return f"{manifest.track['task_id']}/{manifest.track['audio_id']}"


def history_gaps(
    source: str, entry: LedgerEntry | None, tasks: Sequence[Mapping[str, Any]], manifest: Manifest | None
) -> list[str]:
    """
    Say what a track's history leaves out.

    :param source: The track's source.
    :param entry: Its ledger entry, ``None`` for none.
    :param tasks: The vendor's rows of it.
    :param manifest: Its manifest, ``None`` for none.
    """
    if entry is None:
        return [f"{source}: charged or landed, and not in the ledger"] if tasks or manifest else []
    gaps = []
    # A callback is written down when its task next runs, with the time at which it came.
    times = [event.at for event in entry.history if event.event != "called_back"]
    if times != sorted(times):
        gaps.append(f"{source}: its history is not in order")
    told = {(event.event, event.attempt_id) for event in entry.history}
    known = {attempt.vendor_task_id for attempt in entry.attempts}
    for attempt in entry.attempts:
        if ("claimed", attempt.attempt_id) not in told:
            gaps.append(f"{source}: attempt {attempt.attempt_id} was never claimed")
        if (
            attempt.vendor_task_id
            and not {
                ("submitted", attempt.attempt_id),
                ("adopted", attempt.attempt_id),
            }
            & told
        ):
            gaps.append(f"{source}: nobody says how attempt {attempt.attempt_id} got its vendor task")
    # An answer that is on its way, or in doubt, is the one thing that the ledger may not know yet.
    if entry.state is not EntryState.CLAIMED:
        gaps += [
            f"{source}: charged for vendor task {task['vendor_task_id']}, which the ledger does not know"
            for task in tasks
            if task["vendor_task_id"] not in known
            and not any(a.vendor_task_id is None for a in entry.attempts)
        ]
    if manifest is not None and manifest.vendor_task_id not in known:
        gaps.append(f"{source}: landed from vendor task {manifest.vendor_task_id}, which it does not know")
    if entry.state is EntryState.LANDED and (manifest is None or not any(e == "landed" for e, _ in told)):
        gaps.append(f"{source}: landed, it says, and there is no manifest or no word of it")
    return gaps


def _manifest(body: bytes, key: str) -> Manifest:
    return Manifest.from_json(body, where=key)


def _is_true(client: S3Client, uri: str, sha256: str) -> bool:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError:
        return False
    return hashlib.sha256(body).hexdigest() == sha256


def _by_source(
    tasks: Sequence[Mapping[str, Any]], planned: Collection[str]
) -> dict[str, list[Mapping[str, Any]]]:
    found = defaultdict(list)
    for task in tasks:
        if task["source"] in planned:
            found[task["source"]].append(task)
    return dict(found)


def _not_failed(tasks: Sequence[Mapping[str, Any]]) -> int:
    return sum(not str(task["status"]).endswith("FAILED") for task in tasks)
