"""What a user gets: built, installed beside an Airflow in an environment of its own, and asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_vocalsep import __version__
from airflow_provider_vocalsep.audit.schemas import NAMES as SCHEMAS

ROOT = Path(__file__).parents[2]
NAME = f"airflow_provider_vocalsep-{__version__}"

#: Airflow's versions beside which we are installed, and the constraints that make it repeatable.
AIRFLOWS = {"3.3.2": ".ci/constraints.txt", "3.1.8": ".ci/constraints-airflow-3.1.txt"}

OUR_DAGS = ["index_stems", "separate_catalogue", "separate_large_catalogue", "separate_track"]


def run(*command: str | Path, **variables: str) -> str:
    """Run a program and return what it printed; its errors are shown if it fails."""
    ended = subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def page_files() -> set[str]:
    """Return what the page in Airflow's UI is made of, as paths in the repository."""
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "airflow_provider_vocalsep/ui/static").iterdir()}
    assert len(found) > 8
    return found


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    """A folder with wheel and sdist; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, ".")
    return folder


@pytest.fixture(scope="session")
def wheel(distributions) -> Path:
    return distributions / f"{NAME}-py3-none-any.whl"


@dataclass(frozen=True)
class Installation:
    """An environment with one Airflow and our wheel, nothing else that was asked for."""

    bin: Path
    home: Path
    airflow: str

    def run(self, program: str, *arguments: str | Path) -> str:
        return run(
            self.bin / program, *arguments, AIRFLOW_HOME=str(self.home), AIRFLOW__CORE__LOAD_EXAMPLES="False"
        )

    def rows(self, *airflow_arguments: str) -> list[dict[str, Any]]:
        """Return the table that an ``airflow`` command prints."""
        said = self.run("airflow", *airflow_arguments, "--output", "json")
        return json.loads(said[said.index("[{") :])


@pytest.fixture(scope="session", params=AIRFLOWS)
def installation(request, tmp_path_factory, wheel) -> Installation:
    folder = tmp_path_factory.mktemp(f"airflow-{request.param}")
    uv = [sys.executable, "-m", "uv"]
    run(*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(
        *uv,
        *("pip", "install", "--quiet", "--python", folder / "venv"),
        *("--constraint", ROOT / AIRFLOWS[request.param]),
        *(wheel, f"apache-airflow=={request.param}"),
    )
    return Installation(folder / "venv" / "bin", folder / "home", request.param)


@pytest.fixture(scope="session")
def inspected(installation) -> dict[str, Any]:
    script = Path(__file__).with_name("inspect_installation.py")
    said = installation.run("python", script, ROOT / "dags")
    return json.loads(said.splitlines()[-1])


class TestDistributions:
    def test_the_wheel_holds_the_package_the_dags_and_the_licence_and_no_tests(self, wheel):
        names = zipfile.ZipFile(wheel).namelist()

        assert "airflow_provider_vocalsep/get_provider_info.py" in names
        assert {f"airflow_provider_vocalsep/audit/schemas/{name}.json" for name in SCHEMAS} <= set(names)
        assert {f"airflow_provider_vocalsep/example_dags/{dag}.py" for dag in OUR_DAGS} <= set(names)
        assert f"{NAME}.dist-info/licenses/LICENSE" in names
        assert {name.split("/")[0] for name in names} == {"airflow_provider_vocalsep", f"{NAME}.dist-info"}
        assert page_files() <= set(names)

    def test_the_sdist_holds_all_that_a_build_and_the_tests_need(self, distributions):
        with tarfile.open(distributions / f"{NAME}.tar.gz") as sdist:
            names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}

        assert {
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "Makefile",
            ".ci/constraints.txt",
            "dags/separate_catalogue.py",
            "tests/conftest.py",
            "docs/audit.md",
            *(f"airflow_provider_vocalsep/audit/schemas/{name}.json" for name in SCHEMAS),
            *page_files(),
        } <= names


class TestInstalled:
    def test_is_a_clean_environment_whose_packages_agree(self, installation, inspected):
        run(sys.executable, "-m", "uv", "pip", "check", "--python", installation.bin.parent)

        assert Path(inspected["package"]).is_relative_to(installation.bin.parent)

    def test_airflow_lists_the_provider(self, installation):
        (ours,) = [
            row
            for row in installation.rows("providers", "list")
            if row["package_name"] == "airflow-provider-vocalsep"
        ]

        assert ours["version"] == __version__
        assert "Separates whole music catalogues" in ours["description"]

    def test_airflow_lists_the_plugin(self, installation):
        names = [row["name"] for row in installation.rows("plugins")]

        assert names.count("vocalsep") == 1

    def test_the_provider_declares_its_hook_and_connection_type(self, inspected):
        (connection,) = inspected["provider"]["connection-types"]

        assert connection["connection-type"] == "vocalsep"
        assert connection["hook-class-name"].endswith("VocalSeparationHook")

    def test_the_connection_form_is_complete(self, installation, inspected):
        form = inspected["form"]

        assert form["hook_name"] == "Vocal separation"
        if installation.airflow.startswith("3.1"):
            pytest.skip("fields of a form can be declared without code since Airflow 3.2 only")
        assert form["standard_fields"]["password"]["title"] == "API key"
        assert {"dialect", "download_hosts", "allow_private_hosts"} <= form["extra_fields"].keys()
        assert all(field["schema"]["title"] for field in form["extra_fields"].values())
        assert all(field["description"] for field in form["extra_fields"].values())

    @pytest.mark.parametrize("where", ["dags", "shipped_dags"])
    def test_its_dags_parse_without_a_warning(self, inspected, where):
        assert inspected[where] == {"ids": OUR_DAGS, "import_errors": {}, "warnings": {}}

    def test_airflow_has_the_commands_about_a_destination(self, installation):
        if installation.airflow.startswith("3.1"):
            pytest.skip("providers have commands since Airflow 3.2")
        said = installation.run("airflow", "vocalsep", "--help")

        assert [
            name
            for name in ("audit", "prune", "retry-plan", "show", "verify")
            if not re.search(rf"^    {name}\s", said, re.MULTILINE)
        ] == []

    def test_the_command_line_works_without_extras_and_says_what_to_install(self, installation):
        assert installation.run("vocalsep", "--version").strip() == f"vocalsep, version {__version__}"
        asked = subprocess.run(
            [installation.bin / "vocalsep", "sandbox"], capture_output=True, text=True, check=False
        )

        assert asked.returncode == 1
        assert "pip install 'airflow-provider-vocalsep[sandbox]'" in asked.stderr
