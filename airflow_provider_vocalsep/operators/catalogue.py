"""Catalogues inside DAGs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.catalogue.reader import Catalogue, CatalogueError, read_catalogue
from airflow_provider_vocalsep.landing.keys import parse_s3_uri
from airflow_provider_vocalsep.operators.assembly import fail_or_retry, s3_client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


def load_tracks(
    catalogue: str, *, aws_conn_id: str | None = "aws_default", bad_rows: str = "fail"
) -> list[dict[str, Any]]:
    """
    Read the tracks of a catalogue, ready for ``VocalSeparationOperator.partial(...).expand(track=...)``.

    :param catalogue: ``s3://`` address or local path of a CSV file or, by its ending ``.jsonl`` or ``.ndjson``, of JSON
        Lines. Fields: ``key``, ``task_id`` and ``audio_id`` or ``audio_url``, and optionally ``title``, ``duration``.
    :param aws_conn_id: Connection of the object storage.
    :param bad_rows: ``fail`` refuses a catalogue with rows that cannot be used, naming each; ``skip`` logs them and
        goes on with the others.
    :return: One mapping a track. A row that repeats an earlier one is left out and logged.
    """
    if bad_rows not in ("fail", "skip"):
        fail_or_retry(CatalogueError(f"bad_rows is 'fail' or 'skip', not {bad_rows!r}."))
    try:
        found = read_catalogue(_lines(catalogue, aws_conn_id), catalogue)
        if bad_rows == "fail":
            found.raise_for_rejects()
    except CatalogueError as e:
        fail_or_retry(e)
    _log(found)
    return [track.model_dump(exclude_none=True) for track in found.tracks]


def _log(found: Catalogue) -> None:
    for line, reason in found.rejects:
        log.warning("%s line %d is skipped: %s", found.name, line, reason)
    for line, reason in found.duplicates:
        log.warning("%s line %d says nothing new: %s", found.name, line, reason)
    if not found.tracks:
        log.warning("%s has no tracks; nothing will be separated.", found.name)
    log.info("%s: %d tracks.", found.name, len(found.tracks))


def _lines(catalogue: str, aws_conn_id: str | None) -> Iterator[str]:
    if not catalogue.startswith("s3://"):
        try:
            yield from (
                Path(catalogue.removeprefix("file://"))
                .read_text(encoding="utf-8-sig")
                .splitlines(keepends=True)
            )
        except (OSError, UnicodeDecodeError) as e:
            raise CatalogueError(f"Catalogue {catalogue} could not be read: {e}") from e
        return
    bucket, key = parse_s3_uri(catalogue)
    try:
        body = s3_client_of(aws_conn_id).get_object(Bucket=bucket, Key=key)["Body"].read()
        yield from body.decode("utf-8-sig").splitlines(keepends=True)
    except (ClientError, BotoCoreError, UnicodeDecodeError) as e:
        raise CatalogueError(f"Catalogue {catalogue} could not be read: {e}") from e
