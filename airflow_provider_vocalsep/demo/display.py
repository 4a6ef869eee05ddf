"""What a person sees of a demo: a live table at a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

#: What an Airflow state means for a track: before the vendor had it, and after.
WORDS: dict[str | None, tuple[str, str]] = {
    None: ("waiting for its turn", "waiting to be landed"),
    "scheduled": ("waiting for its turn", "waiting to be landed"),
    "queued": ("waiting for its turn", "waiting to be landed"),
    "running": ("being prepared", "being landed"),
    "deferred": ("being separated", "being separated"),
    "up_for_retry": ("to be tried again", "to be tried again"),
    "success": ("landed", "landed"),
    "failed": ("failed", "failed"),
    "upstream_failed": ("not reached", "not reached"),
}

STYLES = {
    "being prepared": "yellow",
    "being separated": "cyan",
    "being landed": "yellow",
    "landed": "green",
    "failed": "bold red",
}


class Display:
    """
    Shows where each track stands.

    :param console: Where to.
    :param started: When the demo started, ``time.monotonic()``.
    """

    def __init__(self, console: Console, started: float) -> None:
        self._console = console
        self._started = started
        self._shown: dict[str, str] = {}
        self._separated: set[str] = set()
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        self._console.print(f"[dim]{self._seconds():6.1f} s[/dim]  {text}", highlight=False)

    @contextmanager
    def tracks(self, titles: Sequence[str]) -> Iterator[None]:
        """Keep a table of tracks on the screen while the block runs; at a terminal only."""
        self._shown = dict.fromkeys(titles, WORDS[None][0])
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._table, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def update(self, states: Mapping[str, str | None]) -> None:
        """
        Take note of new states.

        :param states: Airflow's state of each track's task, by title.
        """
        for title, state in states.items():
            if state == "deferred":
                self._separated.add(title)
            word = WORDS.get(state, (str(state),) * 2)[title in self._separated]
            if self._shown.get(title) != word:
                self._shown[title] = word
                if self._live is None:
                    self.say(f"{title}: {word}")

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _table(self) -> Table:
        landed = sum(word == "landed" for word in self._shown.values())
        table = Table(
            title=f"{landed} of {len(self._shown)} tracks landed, {self._seconds():.0f} s",
            title_justify="left",
        )
        table.add_column("Track")
        table.add_column("State", min_width=24)
        for title, word in self._shown.items():
            style = STYLES.get(word, "dim")
            table.add_row(title, f"[{style}]{word}[/{style}]")
        return table


def stems_table(items: Sequence[Mapping[str, Any]], destination: str) -> Table:
    """
    Lay out what landed.

    :param items: The report's items.
    :param destination: Below which address they all are.
    """
    table = Table(title=f"In {destination}", title_justify="left")
    table.add_column("Object", overflow="fold")
    table.add_column("Seconds", justify="right")
    table.add_column("kB", justify="right")
    previous = None
    for item in items:
        if previous not in (None, item["track"]):
            table.add_section()
        previous = item["track"]
        length = item["duration_seconds"]
        table.add_row(
            item["uri"].removeprefix(f"{destination}/"),
            "" if length is None else f"{length:.1f}",
            f"{item['bytes'] / 1000:,.0f}",
        )
    return table
