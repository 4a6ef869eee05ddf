"""What the commands about a destination share: help, errors, Ctrl-C, and ``airflow vocalsep``."""

from __future__ import annotations

import json

import pytest
from audit_world import DESTINATION

from airflow_provider_vocalsep.audit import entries
from airflow_provider_vocalsep.cli import airflow_commands
from airflow_provider_vocalsep.cli.airflow_commands import NAMES


@pytest.fixture(params=NAMES)
def command(request):
    return request.param


class TestHelp:
    def test_has_an_example_of_each_command(self, vocalsep, command):
        answer = vocalsep(command, "--help")
        assert answer.exit_code == 0
        assert f"  vocalsep {command} s3://" in answer.output.split("Examples:", 1)[1]
        assert "s3://BUCKET/PREFIX" in answer.output
        assert "AWS_ENDPOINT_URL" in answer.output


class TestErrors:
    @pytest.mark.parametrize(
        ("address", "says"),
        [
            ("stems/music", "'stems/music' is not an address in S3: write it as s3://bucket/prefix."),
            ("s3://nobody", "There is no bucket 'nobody'. Check the credentials: AWS_ACCESS_KEY_ID"),
        ],
    )
    def test_of_the_address_say_what_to_do(self, vocalsep, command, address, says, call):
        answer = vocalsep(*call(command, address))
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert answer.stderr.startswith(f"Error: {says}")

    def test_of_a_bucket_that_refuses_say_what_to_do(self, vocalsep, world, command, monkeypatch, call):
        from botocore.exceptions import ClientError

        def refuse(*_, **__):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")

        monkeypatch.setattr(world.client, "get_paginator", refuse)
        monkeypatch.setattr("airflow_provider_vocalsep.audit.bucket.client_of", lambda **_: world.client)
        answer = vocalsep(*call(command, DESTINATION))
        assert answer.exit_code == 2
        assert "the store refuses it (AccessDenied). Check the credentials" in answer.stderr


def test_ctrl_c_ends_each_without_a_traceback(vocalsep, command, monkeypatch, call):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(entries, "list_items", interrupt)
    for module in ("prune", "timeline", "verify"):
        monkeypatch.setattr(f"airflow_provider_vocalsep.audit.{module}.list_items", interrupt)
    answer = vocalsep(*call(command, DESTINATION))
    assert answer.exit_code == 130
    assert "Traceback" not in answer.output


@pytest.fixture(scope="module")
def parser():
    """Airflow's own, with the commands of providers."""
    from airflow.cli import cli_parser

    if "vocalsep" not in {command.name for command in cli_parser.airflow_commands}:
        pytest.skip("providers have commands since Airflow 3.2")
    return cli_parser.get_parser()


class TestAirflow:
    """The same commands as ``airflow vocalsep …``."""

    @pytest.fixture
    def airflow(self, parser, client, capsys):
        def run(*arguments):
            args = parser.parse_args(["vocalsep", *arguments])
            with pytest.raises(SystemExit) as end:
                args.func(args)
            return end.value.code, capsys.readouterr()

        return run

    def test_lists_them_with_their_help(self, parser, capsys, command):
        with pytest.raises(SystemExit):
            parser.parse_args(["vocalsep", command, "--help"])
        said = capsys.readouterr().out
        assert "Exit code" in said or command == "show"
        assert "--endpoint-url" in said

    def test_runs_each_as_vocalsep_does(self, airflow, vocalsep, world, command, call):
        world.report([world.land("one"), world.fail("two")])
        code, said = airflow(*call(command, DESTINATION))
        own = vocalsep(*call(command, DESTINATION))
        assert code == own.exit_code
        if command in ("retry-plan", "verify", "prune"):
            assert said.out.splitlines() == own.stdout.splitlines()

    def test_takes_options_of_every_kind(self, airflow, world):
        world.report([world.land("one"), world.fail("two"), world.left("three")])
        code, said = airflow(
            "audit", DESTINATION, "--state", "failed", "--state", "left", "--format", "json", "--limit", "5"
        )
        assert code == 0
        assert [row["track"] for row in json.loads(said.out)["tracks"]] == ["three", "two"]
        code, said = airflow("prune", DESTINATION, "--older-than", "0h", "--yes")
        assert code == 0
        assert "deleted." in said.out

    def test_names_a_wrong_value(self, airflow):
        code, said = airflow("audit", DESTINATION, "--since", "yesterday")
        assert code == 2
        assert "is no time. Write 2026-11-23" in said.err

    def test_is_declared_in_the_provider_info(self):
        from airflow_provider_vocalsep.get_provider_info import get_provider_info

        assert get_provider_info()["cli"] == [f"{airflow_commands.__name__}.airflow_commands"]
