"""Ledger entry and manifest of a track, as far as the user may see them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_provider_vocalsep.landing.manifest import Manifest, ManifestError
from airflow_provider_vocalsep.ledger import LedgerEntry
from airflow_provider_vocalsep.storage.errors import NoBucketError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore
    from airflow_provider_vocalsep.ui.destinations import Destination

#: No ledger entry or manifest is larger, so a larger object is not one.
_MAX_JSON = 4_000_000


class UnreadableError(Exception):
    """An object cannot be shown; the message is for the user."""

    @classmethod
    def of(cls, uri: str, error: StorageError) -> UnreadableError:
        """Return the error for an object that could not be read."""
        is_gone = isinstance(error, (NotFoundError, NoBucketError))
        return cls(f"{uri} no longer exists." if is_gone else str(error))


def read_object(store: ObjectStore, locations: Collection[Location], uri: str) -> bytes:
    """
    Read a small object.

    :param locations: Where it may be.
    :param uri: Its address, from a file that anybody may have written.
    :raises UnreadableError: it is elsewhere, or could not be read.
    """
    for location in locations:
        if key := location.key_of(uri):
            try:
                stream = store.open(location.bucket, key)
                if stream.bytes > _MAX_JSON:
                    stream.close()
                    raise UnreadableError(f"{uri} is too large for a ledger entry or manifest.")
                return b"".join(stream.chunks(_MAX_JSON))
            except StorageError as e:
                raise UnreadableError.of(uri, e) from e
    raise UnreadableError(f"{uri} is outside of the destinations that Airflow knows, so it is not opened.")


def read_manifest(store: ObjectStore, destination: Destination, row: dict[str, Any]) -> Manifest | None:
    """
    Read the manifest of a track.

    :param row: The track's row in the run report.
    :return: ``None`` when it has not landed.
    :raises UnreadableError: it cannot be shown.
    """
    if not row.get("manifest"):
        return None
    body = read_object(store, [destination.location], row["manifest"])
    try:
        return Manifest.from_json(body, where=row["manifest"])
    except ManifestError as e:
        raise UnreadableError(str(e)) from e


def read_entry(store: ObjectStore, destination: Destination, row: dict[str, Any]) -> LedgerEntry | None:
    """
    Read the ledger entry of a track.

    :param row: The track's row in the run report.
    :return: ``None`` when the report does not name it: nothing was claimed, or an older version wrote the
        report.
    :raises UnreadableError: it cannot be shown.
    """
    if not row.get("entry"):
        return None
    body = read_object(store, destination.ledgers, row["entry"])
    try:
        return LedgerEntry.model_validate_json(body)
    except ValidationError as e:
        raise UnreadableError(f"{row['entry']} is not a ledger entry.") from e


def redact_entry(
    entry: LedgerEntry, may_read: Callable[[str], bool], own_manifest: str | None
) -> dict[str, Any]:
    """
    Return the parts of an entry that a user may see.

    Another DAG may have paid for the same audio: the user sees the event, but not the DAG.

    :param may_read: Returns whether the user may read a DAG.
    :param own_manifest: The manifest of the run that is shown.
    """
    shown: dict[str, Any] = json.loads(entry.to_json())
    for event in shown.get("history", []):
        _hide(event, "by", may_read)
    for attempt in shown.get("attempts", []):
        if _hide(attempt, "asked_by", may_read):
            attempt.pop("outcome", None)
    if any(part.get("hidden") for part in [*shown.get("history", []), *shown.get("attempts", [])]):
        landings = shown.get("landings", {})
        shown["landings"] = {uri: landing for uri, landing in landings.items() if uri == own_manifest}
        shown.pop("track_key", None)
        shown.pop("title", None)
    return shown


def redact_manifest(manifest: Manifest, may_read: Callable[[str], bool]) -> dict[str, Any]:
    """Return the parts of a manifest that a user may see, see :func:`redact_entry`."""
    shown: dict[str, Any] = json.loads(manifest.to_json())
    _hide(shown, "asked_by", may_read)
    return shown


def _hide(part: dict[str, Any], by: str, may_read: Callable[[str], bool]) -> bool:
    """Remove a task instance that the user may not see; return whether it was removed."""
    instance = part.get(by)
    dag_id = instance.get("dag_id") if isinstance(instance, dict) else None
    if not dag_id or may_read(str(dag_id)):
        return False
    for name in (by, "message", "attempt_id", "user", "asked_by_user"):
        part.pop(name, None)
    part["hidden"] = True
    return True
