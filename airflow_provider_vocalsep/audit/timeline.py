"""The history of a track in words, and where to find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.audit.bucket import AbsentError, BucketError, list_items, read_object
from airflow_provider_vocalsep.landing.manifest import Manifest, ManifestError
from airflow_provider_vocalsep.runs.listing import Destination
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.audit.entries import Archive, Found
    from airflow_provider_vocalsep.ledger import Event, TaskInstanceRef

#: What the events of a history are for a person.
WORDS = {
    "claimed": "about to submit",
    "sent_again": "turned away, sent again",
    "submitted": "submitted",
    "submit_refused": "submit refused",
    "submit_lost": "answer to the submit lost",
    "submit_given_up": "lost submit given up",
    "left_in_doubt": "left alone, may be paid",
    "adopted": "adopted by its callback",
    "attached": "attached, nothing paid",
    "called_back": "vendor called back",
    "separated": "separated",
    "failed": "vendor failed",
    "wait_ended": "wait given up",
    "landing_failed": "landing failed",
    "landed": "landed",
    "skipped": "landed before, skipped",
}


@dataclass
class Story:
    """
    All that a destination knows of a track.

    :param entries: Its ledger entries.
    :param manifests: Its manifests.
    :param troubles: What could not be read.
    """

    entries: list[Found]
    manifests: list[Manifest]
    troubles: list[str]


def find(archive: Archive, track: str, on_read: Callable[[], None] = lambda: None) -> Story:
    """
    Find a track.

    Its manifests and the run reports name its ledger entries; only if neither does, the whole ledger is read.

    :param archive: The destination.
    :param track: Key of the track, or the id of one of its vendor tasks.
    :param on_read: Called after each ledger entry of the whole ledger.
    :raises BucketError: the bucket cannot be read.
    """
    troubles: list[str] = []
    manifests = _manifests(archive, track, troubles)
    uris = {manifest.entry for manifest in manifests if manifest.entry}
    for found in archive.reports(archive.run_files()):
        if found.report is None:
            troubles.append(found.trouble)
            continue
        rows = [row for row in found.report.rows if track in (row["track"], row.get("vendor_task_id"))]
        uris |= {row["entry"] for row in rows if row.get("entry")}
    keys = [key for key in map(archive.ledger.key_of, sorted(uris)) if key]
    entries = [archive.read_entry(key) for key in keys]
    known = {found.entry.separation_type for found in entries if found.entry}
    if not entries or {manifest.separation_type for manifest in manifests} - known:
        entries = [
            found
            for found in archive.entries(on_read)
            if found.entry is None or _is_about(found, track, manifests)
        ]
    troubles += [found.trouble for found in entries if found.entry is None]
    entries = [found for found in entries if found.entry]
    if not manifests:
        manifests = _landed_manifests(archive, entries, troubles)
    entries.sort(
        key=lambda found: (
            found.entry.history[0].at.timestamp() if found.entry and found.entry.history else 0.0
        )
    )
    return Story(entries, manifests, troubles)


def _is_about(found: Found, track: str, manifests: list[Manifest]) -> bool:
    entry = found.entry
    if entry is None:
        return False
    ids = {attempt.vendor_task_id for attempt in entry.attempts}
    return entry.track_key == track or track in ids or any(m.vendor_task_id in ids for m in manifests)


def _manifests(archive: Archive, track: str, troubles: list[str]) -> list[Manifest]:
    place = archive.destination
    folder = "/".join(part for part in (place.prefix, safe_key(track)) if part)
    found = []
    for item in list_items(archive.client, place.bucket, f"{folder}/"):
        if item.key.endswith("/manifest.json"):
            manifest = _manifest(archive, place, item.key, troubles)
            if manifest and manifest.track.get("key") == track:
                found.append(manifest)
    return found


def _landed_manifests(archive: Archive, entries: list[Found], troubles: list[str]) -> list[Manifest]:
    """Read the manifests that entries name; a track may be asked for by its vendor task."""
    found = []
    for entry in (found.entry for found in entries if found.entry):
        for uri in entry.landings:
            bucket, key = parse_s3_uri(uri)
            manifest = _manifest(archive, Destination(bucket, ""), key, troubles)
            if manifest:
                found.append(manifest)
    return found


def _manifest(archive: Archive, place: Destination, key: str, troubles: list[str]) -> Manifest | None:
    where = f"s3://{place.bucket}/{key}"
    try:
        return Manifest.from_json(read_object(archive.client, place.bucket, key), where=where)
    except AbsentError:
        troubles.append(f"{where} is not there any more.")
    except (BucketError, ManifestError) as e:
        troubles.append(str(e))
    return None


def words_of(event: Event) -> str:
    """Say what an event was."""
    words = WORDS.get(event.event, event.event.replace("_", " "))
    return f"{words} ×{event.count}" if event.count > 1 else words


def details_of(event: Event) -> str:
    """Say what else is known of an event."""
    said = []
    if event.credits:
        said.append(f"{abs(event.credits):g} credits" + (" given back" if event.credits < 0 else ""))
    if event.code is not None:
        said.append(f"code {event.code}")
    if event.status:
        said.append(event.status)
    if event.vendor_task_id:
        said.append(f"vendor task {event.vendor_task_id}")
    if event.message:
        said.append(event.message)
    return "; ".join(said)


def who_of(by: TaskInstanceRef | None) -> str:
    """Say who was at it."""
    if by is None:
        return ""
    return f"{by}, {by.user}" if by.user else str(by)
