"""The distributions, built once, and clean environments with the wheel and one Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_vocalsep import __version__

ROOT = Path(__file__).parents[2]
NAME = f"airflow_provider_vocalsep-{__version__}"

#: Airflow versions with which the wheel is installed, and the constraints that make it repeatable.
AIRFLOWS = {"3.3.2": ".ci/constraints.txt", "3.1.8": ".ci/constraints-airflow-3.1.txt"}

UV = (sys.executable, "-m", "uv")


def run(*command: str | Path, **variables: str) -> str:
    """Run a program and return its output; a failure shows the output and the errors."""
    # The Makefile exports PYTHONPATH, which would replace the installed package with the checkout's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    """The folder of wheel and sdist; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, ".")
    return folder


@pytest.fixture(scope="session")
def sdist(distributions) -> Path:
    return distributions / f"{NAME}.tar.gz"


@pytest.fixture(scope="session")
def wheel(distributions) -> Path:
    return distributions / f"{NAME}-py3-none-any.whl"


@dataclass(frozen=True)
class Installation:
    """
    An environment in which only the wheel and one Airflow were requested.

    :param bin: Folder of its programs.
    :param home: ``AIRFLOW_HOME``.
    :param airflow: Version of Airflow.
    """

    bin: Path
    home: Path
    airflow: str

    def run(self, program: str, *arguments: str | Path) -> str:
        return run(
            self.bin / program, *arguments, AIRFLOW_HOME=str(self.home), AIRFLOW__CORE__LOAD_EXAMPLES="False"
        )

    def rows(self, *airflow_arguments: str) -> list[dict[str, Any]]:
        """Return the table that an ``airflow`` command prints."""
        output = self.run("airflow", *airflow_arguments, "--output", "json")
        return json.loads(output[output.index("[{") :])

    def check(self) -> None:
        """Fail if installed distributions contradict each other's requirements."""
        run(*UV, "pip", "check", "--python", self.bin.parent)

    def packages(self) -> set[str]:
        """Return the names of all installed distributions."""
        output = run(*UV, "pip", "list", "--quiet", "--format", "json", "--python", self.bin.parent)
        return {row["name"] for row in json.loads(output)}


@pytest.fixture(scope="session", params=AIRFLOWS)
def installation(request, tmp_path_factory, wheel) -> Installation:
    folder = tmp_path_factory.mktemp(f"airflow-{request.param}")
    run(*UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(
        *UV,
        *("pip", "install", "--quiet", "--python", folder / "venv"),
        *("--constraint", ROOT / AIRFLOWS[request.param]),
        *(wheel, f"apache-airflow=={request.param}"),
    )
    return Installation(folder / "venv" / "bin", folder / "home", request.param)


@pytest.fixture(scope="session")
def inspected(installation) -> dict[str, Any]:
    script = Path(__file__).with_name("inspect_installation.py")
    output = installation.run("python", script, ROOT / "dags")
    return json.loads(output.splitlines()[-1])
