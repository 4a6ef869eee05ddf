"""Cutting a catalogue into chunks: every row checked, nothing twice, in memory that does not grow with it."""

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
from airflow_provider_vocalsep.ledger.entry import source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_provider_vocalsep.catalogue.sources import Numbered


@dataclass
class Counts:
    """
    What a catalogue held.

    :param tracks: Tracks that are planned.
    :param duplicates: Rows that say the same as an earlier one.
    :param landed: Tracks that were left out because they have landed.
    :param rejects: Rows that cannot be used.
    :param first_rejects: The first of these, line and reason.
    """

    tracks: int = 0
    duplicates: int = 0
    landed: int = 0
    rejects: int = 0
    first_rejects: list[tuple[int, str]] = field(default_factory=list)


class SeenKeys:
    """Which keys have been named before, on which line and what for: on disk, however many there are."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="vocalsep-plan-")
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER, source TEXT) WITHOUT ROWID")

    def add(self, key: str, line: int = 0, source: str = "") -> tuple[int, str] | None:
        """
        Remember a key; return the line and the source that it was named for before, ``None`` if it was not.

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
        """Forget them."""
        self._db.close()
        self._file.close()


class Plan:
    """
    Reads rows and gives tracks.

    :param columns: For columns that are called otherwise: field of a track, name of its column.
    :param is_landed: Tells tracks that are to be left out.
    :param on_reject: Told of each row that cannot be used: line, reason, row.
    :param on_duplicate: Told of each row that says the same as an earlier one: line, reason.
    """

    #: Rows that a message names.
    NAMED = 20

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

    def tracks(self, rows: Iterable[Numbered]) -> Iterator[Track]:
        """
        Give the tracks that are to be separated.

        :param rows: The catalogue's rows with their lines.
        """
        with closing(SeenKeys()) as seen:
            for line, row in rows:
                try:
                    track = Track.parse(self._renamed(row))
                except TrackError as e:
                    self._reject(line, str(e), row)
                    continue
                before = seen.add(track.key, line, source_of(track))
                if before is None:
                    if self.is_landed is not None and self.is_landed(track):
                        self.counts.landed += 1
                        continue
                    self.counts.tracks += 1
                    yield track
                elif before[1] == source_of(track):
                    self.counts.duplicates += 1
                    self.on_duplicate(line, f"track {track.key!r} is on line {before[0]} already")
                else:
                    self._reject(
                        line,
                        f"key {track.key!r} names another track on line {before[0]}: give each track its own key",
                        row,
                    )

    def raise_for_rejects(self, name: str, where: str = "") -> None:
        """
        Refuse a catalogue with rows that cannot be used.

        :param name: The catalogue.
        :param where: Where all of them are listed, a sentence.
        :raises CatalogueError: naming the first of them with their lines.
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
            + f"\nNothing was submitted. Mend the rows, or let them be skipped. {where}".rstrip()
        )

    def _renamed(self, row: Any) -> Any:
        if not isinstance(row, dict) or not self.columns:
            return row
        return {**row, **{field: row.get(column) for field, column in self.columns.items()}}

    def _reject(self, line: int, reason: str, row: Any) -> None:
        self.counts.rejects += 1
        if len(self.counts.first_rejects) < self.NAMED:
            self.counts.first_rejects.append((line, reason))
        self.on_reject(line, reason, row)


def chunks(tracks: Iterable[Track], size: int) -> Iterator[tuple[int, int, bytes]]:
    """
    Cut tracks into chunk files.

    :param tracks: The tracks.
    :param size: Tracks in a chunk.
    :return: Of each chunk the numbers of its first and last track, from 1, and its JSON Lines.
    """
    lines: list[str] = []
    number = 0
    for number, track in enumerate(tracks, start=1):
        lines.append(json.dumps(track.model_dump(exclude_none=True), ensure_ascii=False))
        if len(lines) == size:
            yield number - size + 1, number, _jsonl(lines)
            lines = []
    if lines:
        yield number - len(lines) + 1, number, _jsonl(lines)


def _jsonl(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
