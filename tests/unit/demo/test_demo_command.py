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
    """Invoke the command with the whole run replaced by ``outcome``."""

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


class TestExitCode:
    @pytest.mark.parametrize(
        ("done", "code"), [(True, 0), (False, 1)], ids=["all landed", "something missing"]
    )
    def test_tells_whether_every_track_landed(self, demo, done, code):
        assert demo(done)[0].exit_code == code

    def test_a_server_that_does_not_come_up_is_an_error_that_names_the_logs(self, demo, tmp_path):
        answer, _ = demo(ServiceError("SeaweedFS ended."))

        assert answer.exit_code == 1
        assert "SeaweedFS ended." in answer.output
        assert str(tmp_path / "demo" / "logs") in answer.output


class TestOptions:
    def test_without_a_terminal_it_does_not_stay(self, demo):
        _, (started,) = demo(True)

        assert started.stay() is None

    def test_an_unknown_separation_is_refused_before_anything_starts(self, demo):
        answer, started = demo(True, "--separation-type", "karaoke")

        assert answer.exit_code == 2
        assert started == []


class TestDagsFolder:
    def test_is_that_of_the_checkout(self):
        assert run.dags_folder() == Path(airflow_provider_vocalsep.__file__).parents[1] / "dags"

    def test_is_inside_the_package_when_that_was_installed(self, tmp_path, monkeypatch):
        package = tmp_path / "site-packages" / "airflow_provider_vocalsep"
        (package / "example_dags").mkdir(parents=True)
        (package / "example_dags" / "separate_catalogue.py").touch()
        monkeypatch.setattr(airflow_provider_vocalsep, "__path__", [str(package)])

        assert run.dags_folder() == package / "example_dags"

    def test_missing_is_an_error_that_names_where_it_looked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(airflow_provider_vocalsep, "__path__", [str(tmp_path / "package")])

        with pytest.raises(ServiceError, match=r"separate_catalogue\.py is in neither of .*example_dags"):
            run.dags_folder()


def test_two_demos_do_not_share_a_folder(tmp_path):
    with (
        run._lock_home(tmp_path),
        pytest.raises(ServiceError, match="Another demo runs in"),
        run._lock_home(tmp_path),
    ):
        raise AssertionError("both hold it")
    with run._lock_home(tmp_path):
        assert (tmp_path / "lock").exists()
