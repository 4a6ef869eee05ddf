"""Operators on a full disk: stems need no temporary files, and a plan fails before any payment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Limits the size of files and ignores the signal, so that each byte beyond is an error, as on a full disk.
SCRIPT = """
import json, resource, signal, sys
from types import SimpleNamespace
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
name, arguments, max_bytes = json.loads(sys.argv[1])
if name == "plan":
    arguments["catalogue"] = [{"key": f"{n:040}", "task_id": "t", "audio_id": f"{n}"} for n in range(60_000)]
operators = {"plan": PlanCatalogueOperator, "separate": VocalSeparationOperator}
operator = operators[name](task_id="t", **arguments)
ti = SimpleNamespace(
    dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, xcom_push=lambda key, value: None
)
resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
try:
    print("ANSWER", json.dumps(operator.execute({"ti": ti}), default=str))
except Exception as e:
    print("ANSWER", type(e).__name__, e)
"""


@pytest.fixture
def on_a_full_disk(bench: Any) -> Callable[..., str]:
    """Run an operator in a process with a limit on the size of its files; return its answer or error."""

    def run(name: str, *, max_bytes: int = 0, **arguments: Any) -> str:
        request = json.dumps([name, arguments, max_bytes])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, request], capture_output=True, text=True, timeout=120, check=False
        )
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")] or [done.stderr]
        return answer.removeprefix("ANSWER ")

    return run


class TestFullDisk:
    def test_track_lands_without_temporary_files(
        self, bench: Any, on_a_full_disk: Callable[..., str]
    ) -> None:
        arguments = {"deferrable": False, "poll_interval": 0.2, "destination": bench.destination}

        answer = on_a_full_disk("separate", track=bench.track(), **arguments)

        assert set(json.loads(answer)["stems"]) == {"vocals", "instrumental"}
        assert len(bench.objects()) == 3

    def test_plan_without_space_for_temporary_files_names_the_remedy(
        self, bench: Any, on_a_full_disk: Callable[..., str]
    ) -> None:
        destination = bench.destination

        answer = on_a_full_disk("plan", max_bytes=100_000, destination=destination, chunk_size=60_000)

        assert answer.startswith("NoRoomError Temporary files could not be written to /")
        assert "set TMPDIR" in answer
        assert bench.objects() == set()
