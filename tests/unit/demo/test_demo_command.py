from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import airflow_provider_vocalsep
from airflow_provider_vocalsep.cli import demo as command
from airflow_provider_vocalsep.demo import run
from airflow_provider_vocalsep.demo.processes import ServiceError


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """Invoke the command with a run that returns or raises ``outcome``."""

    def invoke(outcome, *arguments):
        started = []

        def fake_run(self):
            started.append(self)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(run.Demo, "run", fake_run)
        answer = CliRunner().invoke(command.demo, ["--home", str(tmp_path / "demo"), *arguments])
        return answer, started

    return invoke


class TestDemoCommand:
    @pytest.mark.parametrize(("done", "code"), [(True, 0), (False, 1)], ids=["all landed", "a track missing"])
    def test_exit_code_is_0_only_if_every_track_landed(self, demo, done, code):
        answer, _ = demo(done)

        assert answer.exit_code == code

    def test_server_that_does_not_start_is_an_error_that_names_the_logs(self, demo, tmp_path):
        answer, _ = demo(ServiceError("SeaweedFS ended."))

        assert answer.exit_code == 1
        assert "SeaweedFS ended." in answer.output
        assert str(tmp_path / "demo" / "logs") in answer.output

    def test_servers_stop_after_the_run_without_a_terminal(self, demo):
        _, (started,) = demo(True)

        assert started.stay() is None

    def test_unknown_separation_type_is_refused_before_the_run(self, demo):
        answer, started = demo(True, "--separation-type", "karaoke")

        assert answer.exit_code == 2
        assert started == []


class TestDagsFolder:
    def test_checkout_has_the_folder_beside_the_package(self):
        assert run.dags_folder() == Path(airflow_provider_vocalsep.__file__).parents[1] / "dags"

    def test_installed_package_contains_the_folder(self, tmp_path, monkeypatch):
        package = tmp_path / "site-packages" / "airflow_provider_vocalsep"
        (package / "example_dags").mkdir(parents=True)
        (package / "example_dags" / "separate_catalogue.py").touch()
        monkeypatch.setattr(airflow_provider_vocalsep, "__path__", [str(package)])

        assert run.dags_folder() == package / "example_dags"

    def test_missing_dag_is_an_error_that_names_both_folders(self, tmp_path, monkeypatch):
        monkeypatch.setattr(airflow_provider_vocalsep, "__path__", [str(tmp_path / "package")])

        with pytest.raises(ServiceError, match=r"separate_catalogue\.py is in neither of .*example_dags"):
            run.dags_folder()


def test_second_demo_in_the_same_folder_is_refused(tmp_path):
    with (
        run._lock_home(tmp_path),
        pytest.raises(ServiceError, match="Another demo runs in"),
        run._lock_home(tmp_path),
    ):
        raise AssertionError("both demos hold the lock")
    with run._lock_home(tmp_path):
        assert (tmp_path / "lock").exists()
