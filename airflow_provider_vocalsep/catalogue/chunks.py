"""Reading the tracks of a batch: a list, or a chunk file that the plan of a catalogue wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.catalogue.errors import CatalogueError
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_vocalsep.storage.store import ObjectStore

#: Unusable tracks that a message names.
_NAMED = 10


def read_chunk(store: ObjectStore, uri: str) -> list[dict[str, Any]]:
    """
    Read a chunk file.

    :param store: The object store.
    :param uri: ``s3://`` address of JSON Lines, one track a line.
    :raises CatalogueError: it does not exist or is not JSON Lines.
    """
    bucket, key = parse_s3_uri(uri)
    try:
        return [json.loads(line) for line in store.get(bucket, key).decode().split("\n") if line.strip()]
    except (StorageError, ValueError) as e:
        raise CatalogueError(
            f"The chunk of tracks {uri} could not be read: {e} Nothing was submitted."
        ) from e


def parse_tracks(tracks: Sequence[Track | dict[str, Any]]) -> list[Track]:
    """
    Parse the tracks of a batch; a track that is listed twice counts once.

    :raises CatalogueError: naming the tracks that cannot be used.
    """
    parsed: dict[str, Track] = {}
    problems = []
    for number, raw in enumerate(tracks, start=1):
        try:
            track = raw if isinstance(raw, Track) else Track.parse(raw)
        except TrackError as e:
            problems.append(f"  {number}: {e}")
            continue
        if parsed.setdefault(track.key, track) != track:
            problems.append(
                f"  {number}: key {track.key!r} names another track before: give each track its own key"
            )
    if problems:
        more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CatalogueError(
            f"{len(problems)} of {len(tracks)} tracks cannot be used:\n"
            + "\n".join(problems[:_NAMED])
            + f"{more}\nNothing was submitted."
        )
    return list(parsed.values())
