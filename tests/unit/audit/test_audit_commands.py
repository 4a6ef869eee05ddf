"""The commands about a destination: help, errors, Ctrl-C, and ``airflow vocalsep``."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from airflow_provider_vocalsep.cli import airflow_commands
from airflow_provider_vocalsep.cli.airflow_commands import NAMES
from airflow_provider_vocalsep.get_provider_info import get_provider_info
from airflow_provider_vocalsep.storage import clients
from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.storage.translation import AT_A_SHELL
from tests.support.sample_bucket import DESTINATION


@pytest.fixture(params=NAMES)
def command(request):
    return request.param


class TestHelp:
    def test_shows_the_options_and_an_example(self, vocalsep, command):
        answer = vocalsep(command, "--help")

        assert answer.exit_code == 0
        assert f"  vocalsep {command} s3://" in answer.output.split("Examples:", 1)[1]
        assert "s3://BUCKET/PREFIX" in answer.output
        assert "AWS_ENDPOINT_URL" in answer.output


class TestAboutDestination:
    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("stems/music", "'stems/music' is not an address in S3: write it as s3://bucket/prefix."),
            (
                "s3://nobody",
                "there is no bucket 'nobody'. Check the address. Check the credentials: AWS_ACCESS",
            ),
        ],
    )
    def test_wrong_address_ends_with_an_error_and_its_remedy(self, vocalsep, command, address, message, call):
        answer = vocalsep(*call(command, address))

        assert (answer.exit_code, answer.stdout) == (2, "")
        assert answer.stderr.startswith("Error: ")
        assert message in answer.stderr

    def test_denied_access_ends_with_an_error_and_its_remedy(
        self, vocalsep, sample, command, monkeypatch, call
    ):
        def refuse(*_, **__):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")

        monkeypatch.setattr(sample.client, "get_paginator", refuse)
        store = ObjectStore(sample.client, advice=AT_A_SHELL)
        monkeypatch.setattr(clients, "store_from_shell", lambda **_: store)

        answer = vocalsep(*call(command, DESTINATION))

        assert answer.exit_code == 2
        assert "the store refuses it (AccessDenied: AccessDenied). Check the credentials" in answer.stderr

    def test_ctrl_c_ends_without_a_traceback(self, vocalsep, command, monkeypatch, call):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(ObjectStore, "list_objects", interrupt)

        answer = vocalsep(*call(command, DESTINATION))

        assert answer.exit_code == 130
        assert "Traceback" not in answer.output


@pytest.fixture(scope="module")
def parser():
    """Airflow's own parser, with the commands of providers."""
    from airflow.cli import cli_parser

    if "vocalsep" not in {command.name for command in cli_parser.airflow_commands}:
        pytest.skip("providers have commands since Airflow 3.2")
    return cli_parser.get_parser()


class TestAirflowCommands:
    """The same commands as ``airflow vocalsep …``."""

    @pytest.fixture
    def airflow(self, parser, client, capsys):
        def run(*arguments):
            args = parser.parse_args(["vocalsep", *arguments])
            with pytest.raises(SystemExit) as end:
                args.func(args)
            return end.value.code, capsys.readouterr()

        return run

    def test_help_has_the_text_and_options_of_the_command(self, parser, capsys, command):
        with pytest.raises(SystemExit):
            parser.parse_args(["vocalsep", command, "--help"])

        output = capsys.readouterr().out
        assert "Exit code" in output or command == "show"
        assert "--endpoint-url" in output

    def test_command_does_the_same_as_vocalsep(self, airflow, vocalsep, sample, command, call):
        sample.report([sample.land("one"), sample.fail("two")])

        code, output = airflow(*call(command, DESTINATION))

        own = vocalsep(*call(command, DESTINATION))
        assert code == own.exit_code
        if command in ("retry-plan", "verify", "prune"):
            assert output.out.splitlines() == own.stdout.splitlines()

    def test_repeated_and_valued_options_are_passed_on(self, airflow, sample):
        sample.report([sample.land("one"), sample.fail("two"), sample.leave("three")])

        code, output = airflow(
            "audit", DESTINATION, "--state", "failed", "--state", "left", "--format", "json", "--limit", "5"
        )

        assert code == 0
        assert [row["track"] for row in json.loads(output.out)["tracks"]] == ["three", "two"]

    def test_second_flag_of_a_pair_is_passed_on(self, airflow, sample):
        sample.report([sample.land("one"), sample.fail("two"), sample.leave("three")])

        code, output = airflow("prune", DESTINATION, "--older-than", "0h", "--yes")

        assert code == 0
        assert "deleted." in output.out

    def test_wrong_value_is_a_usage_error(self, airflow):
        code, output = airflow("audit", DESTINATION, "--since", "yesterday")

        assert code == 2
        assert "is not a time. Write 2026-11-23" in output.err

    def test_commands_are_declared_in_the_provider_info(self):
        assert get_provider_info()["cli"] == [f"{airflow_commands.__name__}.airflow_commands"]
