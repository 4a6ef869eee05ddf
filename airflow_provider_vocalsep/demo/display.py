"""Progress of the demo: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

#: Labels of each Airflow task state: before the track was deferred for the first time, and after.
LABELS: dict[str | None, tuple[str, str]] = {
    None: ("waiting to start", "waiting to land"),
    "scheduled": ("waiting to start", "waiting to land"),
    "queued": ("waiting to start", "waiting to land"),
    "running": ("submitting", "landing"),
    "deferred": ("separating", "separating"),
    "up_for_retry": ("waiting for a retry", "waiting for a retry"),
    "success": ("landed", "landed"),
    "failed": ("failed", "failed"),
    "upstream_failed": ("not started", "not started"),
}

STYLES = {
    "submitting": "yellow",
    "separating": "cyan",
    "landing": "yellow",
    "landed": "green",
    "failed": "bold red",
}


class Display:
    """
    Shows the state of each track.

    :param started: ``time.monotonic()`` at the start of the demo.
    """

    def __init__(self, console: Console, started: float) -> None:
        self._console = console
        self._started = started
        self._shown: dict[str, str] = {}
        self._deferred_before: set[str] = set()
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Print one line, after the seconds since the start."""
        self._console.print(f"[dim]{self._seconds():6.1f} s[/dim]  {text}", highlight=False)

    @contextmanager
    def tracks(self, titles: Sequence[str]) -> Iterator[None]:
        """Keep a table of tracks on the screen while the block runs, if the console is a terminal."""
        self._shown = dict.fromkeys(titles, LABELS[None][0])
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._table, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def update(self, states: Mapping[str, str | None]) -> None:
        """
        Show new states.

        :param states: Airflow's state of each track's task instance, by title.
        """
        for title, state in states.items():
            if state == "deferred":
                self._deferred_before.add(title)
            label = LABELS.get(state, (str(state),) * 2)[title in self._deferred_before]
            if self._shown.get(title) != label:
                self._shown[title] = label
                if self._live is None:
                    self.say(f"{title}: {label}")

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _table(self) -> Table:
        landed = sum(label == "landed" for label in self._shown.values())
        table = Table(
            title=f"{landed} of {len(self._shown)} tracks landed, {self._seconds():.0f} s",
            title_justify="left",
        )
        table.add_column("Track")
        table.add_column("State", min_width=24)
        for title, label in self._shown.items():
            style = STYLES.get(label, "dim")
            table.add_row(title, f"[{style}]{label}[/{style}]")
        return table


def build_stems_table(items: Sequence[Mapping[str, Any]], destination: str) -> Table:
    """
    Build a table of the landed stems.

    :param items: ``items`` of the demo's report.
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
