"""``vocalsep demo``, run twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

VOCALSEP = Path(sys.executable).with_name("vocalsep")


def processes_of(home: Path) -> list[str]:
    """Return the command lines of all processes of a demo."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        words = [*(process.info["cmdline"] or ()), (process.info["environ"] or {}).get("AIRFLOW_HOME", "")]
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(home) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def demo(home):
    """Run the demo without a terminal; return its output and its report."""

    def run() -> tuple[str, dict]:
        ended = subprocess.run(
            [VOCALSEP, "demo", "--home", home],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout, json.loads((home / "report.json").read_text())

    return run


@pytest.fixture(scope="module")
def first(demo):
    return demo()


@pytest.fixture(scope="module")
def second(first, demo):
    return demo()


class TestDemo:
    def test_every_track_lands_and_is_reported(self, first):
        said, report = first

        assert list(report) == [
            *(
                "dag_run_state",
                "tracks",
                "landed",
                "stems",
                "seconds",
                "bucket",
                "credits_charged",
                "submits",
            ),
            "items",
        ]
        assert report["dag_run_state"] == "success"
        assert report["tracks"] == report["landed"] == report["submits"] >= 3
        assert report["stems"] == len(report["items"]) == 2 * report["tracks"]
        assert report["credits_charged"] == 10 * report["submits"]
        for item in report["items"]:
            assert item["uri"].startswith("s3://stems/catalogue/")
            assert item["uri"].endswith(f"{item['stem']}.mp3")
            assert item["bytes"] > 10_000
            assert len(item["sha256"]) == 64
            assert item["duration_seconds"] > 10
        assert "Airflow: http://127.0.0.1:" in said
        assert "user demo, password" in said

    def test_second_run_pays_nothing_and_says_so(self, first, second):
        said, report = second

        assert (report["submits"], report["credits_charged"]) == (0, 0)
        assert report["items"] == first[1]["items"]
        assert "nothing was paid again" in said

    def test_no_process_is_left(self, second, home):
        assert processes_of(home) == []


def test_terminated_demo_leaves_no_process(tmp_path):
    with subprocess.Popen(
        [VOCALSEP, "demo", "--home", tmp_path / "home"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert any("Starting Airflow" in line for line in demo.stdout)
        deadline = time.monotonic() + 60
        while not any("scheduler" in line for line in processes_of(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(processes_of(tmp_path)) > 4

        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()

    assert demo.returncode == 128 + signal.SIGTERM
    assert processes_of(tmp_path) == []
