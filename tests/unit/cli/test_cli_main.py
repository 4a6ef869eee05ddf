from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from airflow_provider_vocalsep import __version__
from airflow_provider_vocalsep.cli import main as cli
from airflow_provider_vocalsep.cli.main import LazyCommand, main


@pytest.fixture
def vocalsep():
    def invoke(*arguments: str):
        return CliRunner().invoke(main, list(arguments))

    return invoke


class TestMain:
    def test_help_lists_the_commands_with_examples(self, vocalsep):
        answer = vocalsep("--help")

        assert answer.exit_code == 0
        assert "vocalsep demo" in answer.output
        assert "vocalsep sandbox --port 9000" in answer.output
        for name in cli.COMMANDS:
            assert f"\n  {name} " in answer.output

    def test_version_is_that_of_the_package(self, vocalsep):
        assert vocalsep("--version").output.strip() == f"vocalsep, version {__version__}"

    def test_help_imports_neither_airflow_nor_a_command(self):
        code = (
            "import sys; from airflow_provider_vocalsep.cli.main import main; "
            "main(['--help'], standalone_mode=False); "
            "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'numpy', 'fastapi', 'boto3')])"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert output.stdout.splitlines()[-1] == "[]"


class TestLazyGroup:
    def test_command_is_imported_when_it_runs(self, vocalsep, monkeypatch):
        monkeypatch.setitem(cli.COMMANDS, "echo", LazyCommand(f"{__name__}:echo", "none", "Say it."))

        assert vocalsep("echo", "la").output == "la\n"

    def test_command_with_a_missing_extra_names_it(self, vocalsep, monkeypatch):
        monkeypatch.setitem(cli.COMMANDS, "sing", LazyCommand("no_such_module:sing", "voice", "Sing."))

        answer = vocalsep("sing", "--loud", "--port", "1")

        assert answer.exit_code == 1
        assert "No module named 'no_such_module'" in answer.output
        assert "pip install 'airflow-provider-vocalsep[voice]'" in answer.output

    def test_module_that_is_missing_at_run_time_names_the_extra_too(self, vocalsep, monkeypatch):
        monkeypatch.setitem(cli.COMMANDS, "hum", LazyCommand(f"{__name__}:hum", "voice", "Hum."))

        answer = vocalsep("hum")

        assert answer.exit_code == 1
        assert "pip install 'airflow-provider-vocalsep[voice]'" in answer.output

    def test_missing_module_of_the_provider_itself_is_an_exception(self, vocalsep, monkeypatch):
        monkeypatch.setitem(cli.COMMANDS, "err", LazyCommand(f"{__name__}:err", "voice", "Err."))

        assert isinstance(vocalsep("err").exception, ModuleNotFoundError)

    def test_unknown_command_is_a_usage_error(self, vocalsep):
        answer = vocalsep("dance")

        assert answer.exit_code == 2
        assert "No such command 'dance'" in answer.output


@click.command()
@click.argument("word")
def echo(word: str) -> None:
    click.echo(word)


@click.command()
def hum() -> None:
    import_module("no_such_module")


@click.command()
def err() -> None:
    import_module("airflow_provider_vocalsep.no_such_module")
