"""
Reading a catalogue: CSV with a header line, or JSON Lines, one track a row.

Columns are the fields of :class:`~airflow_provider_vocalsep.api.track.Track`; others are ignored. A row that
cannot be used is reported with its line number and never stops the reading of the rest.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.ledger.entry import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: How many bad rows an error message names; the rest is counted.
_NAMED = 20


class CatalogueError(VocalSepError):
    """A catalogue cannot be used as it is. Nothing of it was submitted."""


@dataclass
class Catalogue:
    """
    What a catalogue holds.

    :param name: Where it came from, for messages.
    :param tracks: The tracks, in the order of the file.
    :param rejects: The rows that cannot be used: line number and reason.
    :param duplicates: Rows that say the same as an earlier one, which is used: line number and reason.
    """

    name: str
    tracks: list[Track] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    duplicates: list[tuple[int, str]] = field(default_factory=list)

    def raise_for_rejects(self) -> None:
        """
        Refuse a catalogue with bad rows.

        :raises CatalogueError: naming each with its line.
        """
        if not self.rejects:
            return
        shown = "\n".join(f"  line {line}: {reason}" for line, reason in self.rejects[:_NAMED])
        more = f"\n  and {len(self.rejects) - _NAMED} more" if len(self.rejects) > _NAMED else ""
        raise CatalogueError(
            f"{len(self.rejects)} of {len(self.rejects) + len(self.tracks) + len(self.duplicates)} rows of {self.name} "
            f"cannot be used:\n{shown}{more}\nNothing was submitted. Mend the rows, or let them be skipped."
        )


def read_catalogue(lines: Iterable[str], name: str) -> Catalogue:
    """
    Read a catalogue.

    :param lines: Its text, line by line.
    :param name: Its address; ``.jsonl`` and ``.ndjson`` are JSON Lines, anything else is CSV.
    :raises CatalogueError: the file as a whole is not a catalogue.
    """
    catalogue = Catalogue(name)
    first: dict[str, tuple[int, Track]] = {}
    rows = _json_lines(lines) if name.lower().endswith((".jsonl", ".ndjson")) else _csv(lines, name)
    for line, row in rows:
        try:
            track = Track.parse(row)
        except TrackError as e:
            catalogue.rejects.append((line, str(e)))
            continue
        seen = first.setdefault(track.key, (line, track))
        if seen[1] is track:
            catalogue.tracks.append(track)
        elif source_of(seen[1]) == source_of(track):
            catalogue.duplicates.append((line, f"track {track.key!r} is on line {seen[0]} already"))
        else:
            catalogue.rejects.append(
                (
                    line,
                    f"key {track.key!r} names another track on line {seen[0]}: give each track its own key",
                )
            )
    return catalogue


def _json_lines(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as e:
                yield number, f"not JSON ({e})"


def _csv(lines: Iterable[str], name: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(line.removeprefix("\ufeff") for line in lines)
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    if "key" not in columns:
        raise CatalogueError(
            f"{name} has no column 'key' (it has: {', '.join(columns) or 'nothing'}). The first line of a CSV "
            "catalogue names its columns: key, task_id and audio_id (or audio_url), title, duration."
        )
    reader.fieldnames = columns
    for row in reader:
        yield reader.line_num, {column: value for column, value in row.items() if isinstance(column, str)}
