"""Temporary files cannot be written: stems need none, and a plan says so before anything is paid."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Ignores the signal and gets an error for every byte beyond, as from a disk without room.
FULL = """
import json, resource, signal, sys
from types import SimpleNamespace
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
what, arguments, room = json.loads(sys.argv[1])
if what == "plan":
    arguments["catalogue"] = [{"key": f"{n:040}", "task_id": "t", "audio_id": f"{n}"} for n in range(60_000)]
operator = {"plan": PlanCatalogueOperator, "separate": VocalSeparationOperator}[what](task_id="t", **arguments)
ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, xcom_push=lambda key, value: None)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    print("ANSWER", json.dumps(operator.execute({"ti": ti}), default=str))
except Exception as e:
    print("ANSWER", type(e).__name__, e)
"""


@pytest.fixture
def on_a_full_disk(bench):
    """Run an operator in a process that may write so many bytes into a file."""

    def run(what, *, room=0, **arguments):
        request = json.dumps([what, arguments, room])
        done = subprocess.run(
            [sys.executable, "-c", FULL, request], capture_output=True, text=True, timeout=120, check=False
        )
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")] or [done.stderr]
        return answer.removeprefix("ANSWER ")

    return run


def test_a_track_lands_without_any_room(bench, on_a_full_disk):
    arguments = {"deferrable": False, "poll_interval": 0.2, "destination": bench.destination}
    answer = on_a_full_disk("separate", track=bench.track(), **arguments)

    assert set(json.loads(answer)["stems"]) == {"vocals", "instrumental"}
    assert len(bench.objects()) == 3


def test_a_plan_that_needs_room_says_so(bench, on_a_full_disk):
    answer = on_a_full_disk("plan", room=100_000, destination=bench.destination, chunk_size=60_000)

    assert answer.startswith("NoRoomError Temporary files could not be written to /")
    assert "set TMPDIR" in answer
    assert bench.objects() == set()
