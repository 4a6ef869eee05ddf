"""The history of one track: finding it, and describing its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.landing.manifest import Manifest, ManifestError
from airflow_provider_vocalsep.storage.errors import NotFoundError, StorageError
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.audit.entries import Archive
    from airflow_provider_vocalsep.ledger import Event, LedgerEntry, TaskInstanceRef

#: Descriptions of the events of a history.
EVENT_LABELS = {
    "claimed": "about to submit",
    "sent_again": "refused, sent again",
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
class TrackHistory:
    """
    All that a destination has about a track.

    :param entries: Its ledger entries, with their addresses.
    :param manifests: Its manifests.
    :param unreadable: Messages about what could not be read.
    """

    entries: list[tuple[str, LedgerEntry]]
    manifests: list[Manifest]
    unreadable: list[str]


def find_track(archive: Archive, track: str, on_read: Callable[[], None] = lambda: None) -> TrackHistory:
    """
    Find a track.

    Its manifests and run reports name its ledger entries; the whole ledger is read only if neither does.

    :param track: Key of the track, or the id of one of its vendor tasks.
    :param on_read: Called after each ledger entry of the whole ledger.
    :raises StorageError: the bucket cannot be read.
    """
    unreadable: list[str] = []
    manifests = _manifests_of(archive, track, unreadable)
    uris = {manifest.entry for manifest in manifests if manifest.entry}
    for stored in archive.reports(archive.run_files()):
        if stored.report is None:
            unreadable.append(stored.error)
            continue
        rows = [row for row in stored.report.rows.values() if track in (row.track, row.vendor_task_id)]
        uris |= {row.entry for row in rows if row.entry}
    keys = [key for key in map(archive.ledger.key_of, sorted(uris)) if key]
    named = [archive.read_entry(key) for key in keys]
    kinds = {stored.entry.separation_type for stored in named if stored.entry}
    if not named or {manifest.separation_type for manifest in manifests} - kinds:
        named = [
            stored
            for stored in archive.entries(on_read)
            if stored.entry is None or _is_about(stored.entry, track, manifests)
        ]
    unreadable += [stored.error for stored in named if stored.entry is None]
    entries = [(stored.uri, stored.entry) for stored in named if stored.entry]
    if not manifests:
        manifests = _landed_manifests(archive, entries, unreadable)
    entries.sort(key=lambda item: item[1].history[0].at.timestamp() if item[1].history else 0.0)
    return TrackHistory(entries, manifests, unreadable)


def _is_about(entry: LedgerEntry, track: str, manifests: list[Manifest]) -> bool:
    ids = {attempt.vendor_task_id for attempt in entry.attempts}
    return entry.track_key == track or track in ids or any(m.vendor_task_id in ids for m in manifests)


def _manifests_of(archive: Archive, track: str, unreadable: list[str]) -> list[Manifest]:
    destination = archive.destination
    folder = destination.folder(safe_key(track))
    manifests = []
    for item in archive.store.list_objects(destination.bucket, folder.listing_prefix):
        if destination.is_manifest(item.key):
            manifest = _read_manifest(archive, destination.uri_of(item.key), unreadable)
            if manifest and manifest.track.get("key") == track:
                manifests.append(manifest)
    return manifests


def _landed_manifests(
    archive: Archive, entries: list[tuple[str, LedgerEntry]], unreadable: list[str]
) -> list[Manifest]:
    """Read the manifests that ledger entries name, for a track that was given by its vendor task."""
    uris = [uri for _, entry in entries for uri in entry.landings]
    return [manifest for uri in uris if (manifest := _read_manifest(archive, uri, unreadable))]


def _read_manifest(archive: Archive, uri: str, unreadable: list[str]) -> Manifest | None:
    try:
        return Manifest.from_json(archive.store.get(*parse_s3_uri(uri)), where=uri)
    except NotFoundError:
        unreadable.append(f"{uri} no longer exists.")
    except (StorageError, ManifestError) as e:
        unreadable.append(str(e))
    return None


def describe_event(event: Event) -> str:
    """Describe an event."""
    label = EVENT_LABELS.get(event.event, event.event.replace("_", " "))
    return f"{label} ×{event.count}" if event.count > 1 else label


def format_details(event: Event) -> str:
    """Return the credits, code, status, vendor task and message of an event."""
    details = []
    if event.credits:
        details.append(f"{abs(event.credits):g} credits" + (" given back" if event.credits < 0 else ""))
    if event.code is not None:
        details.append(f"code {event.code}")
    if event.status:
        details.append(event.status)
    if event.vendor_task_id:
        details.append(f"vendor task {event.vendor_task_id}")
    if event.message:
        details.append(event.message)
    return "; ".join(details)


def format_task_instance(by: TaskInstanceRef | None) -> str:
    """Return the task instance of an event, and the user who triggered its DAG run."""
    if by is None:
        return ""
    return f"{by}, {by.user}" if by.user else str(by)
