"""Parse the rows of a catalogue and cut them into chunks, in memory that does not grow with the catalogue."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.catalogue.errors import CatalogueError, NoRoomError
from airflow_provider_vocalsep.ledger.source import source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_provider_vocalsep.catalogue.sources import NumberedRow


@dataclass
class Counts:
    """
    Rows of a catalogue, by what became of them.

    :param tracks: Planned tracks.
    :param duplicates: Rows that repeat an earlier row.
    :param landed: Tracks left out because they have landed.
    :param rejects: Rows that cannot be used.
    :param first_rejects: Line and reason of the first rejects.
    """

    tracks: int = 0
    duplicates: int = 0
    landed: int = 0
    rejects: int = 0
    first_rejects: list[tuple[int, str]] = field(default_factory=list)


class SeenKeys:
    """The keys seen so far, each with its line and its audio. They are kept on disk, not in memory."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="vocalsep-plan-")
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER, source TEXT) WITHOUT ROWID")

    def add(self, key: str, line: int = 0, source: str = "") -> tuple[int, str] | None:
        """
        Add a key, or return the line and the source with which it was added before.

        :return: ``None`` for a new key.
        :raises NoRoomError: the disk is full.
        """
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, line, source)).rowcount:
                return None
        except sqlite3.OperationalError as e:
            raise NoRoomError(e) from e
        row: tuple[int, str] = self._db.execute(
            "SELECT line, source FROM seen WHERE key = ?", (key,)
        ).fetchone()
        return row

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is not None

    def close(self) -> None:
        """Delete the file of keys."""
        self._db.close()
        self._file.close()


class Plan:
    """
    Parse rows into tracks, and count the rest.

    :param columns: Column names that differ from the fields of a track: field to column.
    :param is_landed: Return whether a track has landed and is left out.
    :param on_reject: Called for each row that cannot be used, with line, reason and row.
    :param on_duplicate: Called for each row that repeats an earlier row, with line and reason.
    """

    #: Rejects that an error message lists.
    MAX_LISTED = 20

    def __init__(
        self,
        *,
        columns: Mapping[str, str] | None = None,
        is_landed: Callable[[Track], bool] | None = None,
        on_reject: Callable[[int, str, Any], None] = lambda *_: None,
        on_duplicate: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        self.columns = {field: column.strip().lower() for field, column in (columns or {}).items()}
        self.is_landed = is_landed
        self.on_reject = on_reject
        self.on_duplicate = on_duplicate
        self.counts = Counts()

    def read_tracks(self, rows: Iterable[NumberedRow]) -> Iterator[Track]:
        """Yield each track once; leave out rejects, duplicates and tracks that have landed."""
        with closing(SeenKeys()) as seen:
            for line, row in rows:
                try:
                    track = Track.parse(self._rename_columns(row))
                except TrackError as e:
                    self._reject(line, str(e), row)
                    continue
                earlier = seen.add(track.key, line, source_of(track))
                if earlier is None:
                    if self.is_landed is not None and self.is_landed(track):
                        self.counts.landed += 1
                        continue
                    self.counts.tracks += 1
                    yield track
                elif earlier[1] == source_of(track):
                    self.counts.duplicates += 1
                    self.on_duplicate(line, f"track {track.key!r} is on line {earlier[0]} already")
                else:
                    reason = f"key {track.key!r} names another track on line {earlier[0]}"
                    self._reject(line, f"{reason}: give each track its own key", row)

    def raise_for_rejects(self, name: str, where: str = "") -> None:
        """
        Raise an error if some rows cannot be used.

        :param name: Name of the catalogue, for the message.
        :param where: A sentence that says where all rejects are listed.
        :raises CatalogueError: listing line and reason of the first rejects.
        """
        counts = self.counts
        if not counts.rejects:
            return
        shown = "\n".join(f"  line {line}: {reason}" for line, reason in counts.first_rejects)
        more = counts.rejects - len(counts.first_rejects)
        rows = counts.rejects + counts.tracks + counts.duplicates + counts.landed
        raise CatalogueError(
            f"{counts.rejects} of {rows} rows of {name} cannot be used:\n{shown}"
            + (f"\n  and {more} more" if more else "")
            + f"\nNothing was submitted. Correct the rows, or skip them (bad_rows='skip'). {where}".rstrip()
        )

    def _rename_columns(self, row: Any) -> Any:
        if not isinstance(row, dict) or not self.columns:
            return row
        return {**row, **{field: row.get(column) for field, column in self.columns.items()}}

    def _reject(self, line: int, reason: str, row: Any) -> None:
        self.counts.rejects += 1
        if len(self.counts.first_rejects) < self.MAX_LISTED:
            self.counts.first_rejects.append((line, reason))
        self.on_reject(line, reason, row)


def split_into_chunks(tracks: Iterable[Track], size: int) -> Iterator[tuple[int, int, bytes]]:
    """
    Cut tracks into chunks.

    :param size: Tracks in a chunk.
    :return: For each chunk the numbers of its first and last track, from 1, and its JSON Lines.
    """
    lines: list[str] = []
    number = 0
    for number, track in enumerate(tracks, start=1):
        lines.append(json.dumps(track.model_dump(exclude_none=True), ensure_ascii=False))
        if len(lines) == size:
            yield number - size + 1, number, _to_jsonl(lines)
            lines = []
    if lines:
        yield number - len(lines) + 1, number, _to_jsonl(lines)


def _to_jsonl(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
