from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from airflow_provider_vocalsep.demo.display import Display, build_stems_table


@pytest.fixture
def screen():
    return io.StringIO()


def display(screen: io.StringIO, *, terminal: bool) -> Display:
    return Display(Console(file=screen, force_terminal=terminal, width=100), time.monotonic())


class TestPlainLines:
    def test_one_for_each_change_and_none_for_a_repetition(self, screen):
        plain = display(screen, terminal=False)
        with plain.tracks(["Daisy Bell"]):
            for state in (None, "queued", "running", "running", "deferred", "queued", "running", "success"):
                plain.update({"Daisy Bell": state})

        lines = [line.split("  ")[-1] for line in screen.getvalue().splitlines()]
        assert lines == [
            "Daisy Bell: being prepared",
            "Daisy Bell: being separated",
            "Daisy Bell: waiting to be landed",
            "Daisy Bell: being landed",
            "Daisy Bell: landed",
        ]

    def test_an_unknown_state_is_shown_as_airflow_calls_it(self, screen):
        plain = display(screen, terminal=False)
        with plain.tracks(["Daisy Bell"]):
            plain.update({"Daisy Bell": "restarting"})

        assert "Daisy Bell: restarting" in screen.getvalue()


class TestTerminal:
    def test_a_table_counts_what_landed(self, screen):
        live = display(screen, terminal=True)
        with live.tracks(["Daisy Bell", "Loch Lomond"]):
            live.update({"Daisy Bell": "success", "Loch Lomond": "deferred"})

        assert "1 of 2 tracks landed" in screen.getvalue()
        assert "being separated" in screen.getvalue()


def test_the_table_of_stems_shows_what_is_below_the_destination(screen):
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
