from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from airflow_provider_vocalsep.demo.display import Display, build_stems_table


@pytest.fixture
def screen():
    return io.StringIO()


def make_display(screen: io.StringIO, *, terminal: bool) -> Display:
    return Display(Console(file=screen, force_terminal=terminal, width=100), time.monotonic())


class TestDisplay:
    def test_each_change_of_state_is_one_line_without_a_terminal(self, screen):
        display = make_display(screen, terminal=False)

        with display.tracks(["Daisy Bell"]):
            for state in (None, "queued", "running", "running", "deferred", "queued", "running", "success"):
                display.update({"Daisy Bell": state})

        lines = [line.split("  ")[-1] for line in screen.getvalue().splitlines()]
        assert lines == [
            "Daisy Bell: submitting",
            "Daisy Bell: separating",
            "Daisy Bell: waiting to land",
            "Daisy Bell: landing",
            "Daisy Bell: landed",
        ]

    def test_unknown_state_is_shown_by_airflows_name(self, screen):
        display = make_display(screen, terminal=False)

        with display.tracks(["Daisy Bell"]):
            display.update({"Daisy Bell": "restarting"})

        assert "Daisy Bell: restarting" in screen.getvalue()

    def test_table_in_a_terminal_counts_landed_tracks(self, screen):
        display = make_display(screen, terminal=True)

        with display.tracks(["Daisy Bell", "Loch Lomond"]):
            display.update({"Daisy Bell": "success", "Loch Lomond": "deferred"})

        assert "1 of 2 tracks landed" in screen.getvalue()
        assert "separating" in screen.getvalue()


def test_stems_table_shows_keys_below_the_destination(screen):
    items = [
        {
            "track": "daisy",
            "stem": stem,
            "uri": f"s3://stems/out/daisy/{stem}.mp3",
            "bytes": 345678,
            "duration_seconds": length,
        }
        for stem, length in (("vocals", 19.25), ("instrumental", None))
    ]

    Console(file=screen, width=100).print(build_stems_table(items, "s3://stems/out"))

    assert "In s3://stems/out\n" in screen.getvalue().replace(" \n", "\n").replace("  ", "")
    assert " daisy/vocals.mp3 " in screen.getvalue()
    assert "19.2" in screen.getvalue()
    assert "346" in screen.getvalue()
