"""All that is known of one track of a run: its ledger entry and manifest, as far as the reader may see them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from airflow_provider_vocalsep.landing.manifest import Manifest, ManifestError
from airflow_provider_vocalsep.ledger import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.runs.listing import Destination
    from airflow_provider_vocalsep.ui.destinations import Source

#: Nothing that a page shows is larger; whatever is, is not ours.
_MAX_JSON = 4_000_000

_GONE = ("NoSuchKey", "404", "NotFound", "NoSuchBucket")


class UnreadableError(Exception):
    """An object cannot be shown; the words are for the reader."""


def read_object(
    client: S3Client, places: set[Destination] | frozenset[Destination], uri: str | None
) -> bytes:
    """
    Read a small object.

    :param client: The boto3 client.
    :param places: Where it may lie.
    :param uri: Its address, out of a file.
    :raises UnreadableError: it is elsewhere, or not there, or the bucket is away.
    """
    for place in places:
        if key := place.key_of(uri):
            try:
                answer = client.get_object(Bucket=place.bucket, Key=key)
                if answer["ContentLength"] > _MAX_JSON:
                    raise UnreadableError(f"{uri} is too large to be one of ours.")
                return answer["Body"].read()
            except ClientError as e:
                code = str(e.response.get("Error", {}).get("Code", "?"))
                gone = "is not there any more" if code in _GONE else f"could not be read ({code})"
                raise UnreadableError(f"{uri} {gone}.") from e
            except BotoCoreError as e:
                raise UnreadableError(f"The object storage did not answer ({type(e).__name__}).") from e
    raise UnreadableError(f"{uri} lies outside of the places that Airflow knows of, so it is not opened.")


def read_manifest(client: S3Client, source: Source, row: dict[str, Any]) -> Manifest | None:
    """
    Read the manifest of a track.

    :param client: The boto3 client.
    :param source: The destination of the run.
    :param row: The track's row in the run report.
    :return: ``None`` when it has not landed.
    :raises UnreadableError: saying why it cannot be shown.
    """
    if not row.get("manifest"):
        return None
    body = read_object(client, {source.destination}, row["manifest"])
    try:
        return Manifest.from_json(body, where=row["manifest"])
    except ManifestError as e:
        raise UnreadableError(str(e)) from e


def read_entry(client: S3Client, source: Source, row: dict[str, Any]) -> LedgerEntry | None:
    """
    Read the ledger entry of a track; arguments as for :func:`read_manifest`.

    :return: ``None`` when the report does not say where it is: nothing was claimed, or an older version wrote it.
    :raises UnreadableError: saying why it cannot be shown.
    """
    if not row.get("entry"):
        return None
    body = read_object(client, source.ledgers, row["entry"])
    try:
        return LedgerEntry.model_validate_json(body)
    except ValidationError as e:
        raise UnreadableError(f"{row['entry']} is not a ledger entry.") from e


def shown_entry(
    entry: LedgerEntry, may_read: Callable[[str], bool], own_manifest: str | None
) -> dict[str, Any]:
    """
    Return what a reader may see of an entry.

    Another DAG may have paid for the same audio: that something happened stays, whose it was goes.

    :param entry: The entry.
    :param may_read: Tells whether they may read a DAG.
    :param own_manifest: The manifest of the run that they look at.
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


def shown_manifest(manifest: Manifest, may_read: Callable[[str], bool]) -> dict[str, Any]:
    """Return what a reader may see of a manifest, see :func:`shown_entry`."""
    shown: dict[str, Any] = json.loads(manifest.to_json())
    _hide(shown, "asked_by", may_read)
    return shown


def _hide(part: dict[str, Any], who: str, may_read: Callable[[str], bool]) -> bool:
    asker = part.get(who)
    dag_id = asker.get("dag_id") if isinstance(asker, dict) else None
    if not dag_id or may_read(str(dag_id)):
        return False
    for name in (who, "message", "attempt_id", "user", "asked_by_user"):
        part.pop(name, None)
    part["hidden"] = True
    return True
