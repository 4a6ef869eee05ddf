"""Commands, plugin and sandbox in processes of their own: what they import, write and answer with nothing before them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import requests

from airflow_provider_vocalsep.cli.airflow_commands import NAMES
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.plugin import TASK_MODULES
from airflow_provider_vocalsep.sandbox.server import SandboxError, running_sandbox

VOCALSEP = ("-c", "from airflow_provider_vocalsep.cli.main import main; main()")
NOBODY = {"AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
SECRETS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
NOWHERE = ("--endpoint-url", "http://127.0.0.1:9")


def python(*arguments, **env):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], **env},
    )


@pytest.mark.parametrize("command", NAMES)
class TestVocalsep:
    def test_helps_without_airflow(self, command):
        code = (
            "import sys; from airflow_provider_vocalsep.cli.main import main; "
            f"main([{command!r}, '--help'], standalone_mode=False); "
            "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'boto3', 'pydantic')])"
        )
        assert python("-c", code).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (NOWHERE, "Check --endpoint-url."),
            (("--endpoint-url", "127.0.0.1"), "Check --profile and --endpoint-url."),
            (("--profile", "nobody"), "The config profile (nobody) could not be found. Check --profile"),
        ],
        ids=["nobody there", "no address", "no profile"],
    )
    def test_says_what_to_do_about_the_connection(self, call, command, options, says):
        ended = python(
            *VOCALSEP, *call(command, "s3://stems/music"), *options,
            **SECRETS, AWS_MAX_ATTEMPTS="1", AWS_CONFIG_FILE="/dev/null",
        )  # fmt: skip
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert says in ended.stderr

    def test_says_what_to_do_about_missing_credentials(self, call, command):
        ended = python(*VOCALSEP, *call(command, "s3://stems/music"), **NOBODY)
        assert ended.returncode == 2, ended.stderr
        assert "there are no AWS credentials. Check the credentials" in ended.stderr


class TestAirflow:
    def test_writes_nothing_but_the_answer_to_standard_output(self):
        cli_parser = pytest.importorskip("airflow.cli.cli_parser")
        if "vocalsep" not in {command.name for command in cli_parser.airflow_commands}:
            pytest.skip("providers have commands since Airflow 3.2")
        ended = python(
            *("-m", "airflow", "vocalsep", "show", "s3://stems/music", "x", *NOWHERE),
            **{**os.environ, **SECRETS, "AWS_MAX_ATTEMPTS": "1"},
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "Check --endpoint-url." in ended.stderr

    def test_pays_next_to_nothing_for_our_commands(self):
        code = (
            "import sys; import airflow.cli.cli_config; "
            "from airflow_provider_vocalsep.cli.airflow_commands import airflow_commands; "
            "before = set(sys.modules); airflow_commands(); "
            "print([m for m in set(sys.modules) - before if m.split('.')[0] in ('boto3', 'botocore', 'pydantic', 'rich')])"
        )
        assert python("-c", code, **os.environ).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize(
        ("command", "setting", "warm"),
        [("scheduler", "True", True), ("scheduler", "False", False), ("api-server", "True", False)],
    )
    def test_imports_what_tasks_import_where_they_are_forked(self, command, setting, warm):
        code = (
            f"import sys; sys.argv = ['airflow', {command!r}]\n"
            "from airflow_provider_vocalsep.plugin import VocalSepPlugin\n"
            "VocalSepPlugin.on_load()\n"
            f"print(*(module in sys.modules for module in {TASK_MODULES!r}))"
        )
        done = python("-c", code, **{**os.environ, "AIRFLOW__VOCALSEP__WARM_TASK_PROCESSES": setting})
        assert done.stdout.split()[-len(TASK_MODULES) :] == [str(warm)] * len(TASK_MODULES)


class TestSandbox:
    def test_says_where_it_is_and_ends_soon_after_sigterm(self, tmp_path):
        port_file, log = tmp_path / "port", tmp_path / "log"
        options = ["--port", "0", "--api-key", "k", "--port-file", str(port_file), "--tiny-stems"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "airflow_provider_vocalsep.sandbox", *options),
                    *("--cache-dir", str(tmp_path)),
                ],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": ""},
            )
        try:
            wait_until(lambda: bool(port_file.read_text()), what="the sandbox", timeout=30)
            port = int(port_file.read_text())
            assert f"serves the sunoapi API at http://127.0.0.1:{port}" in log.read_text()
            health = requests.get(f"http://127.0.0.1:{port}/sandbox/health", timeout=5).json()
            assert health == {"status": "ok", "dialect": "sunoapi", "engine": "tiny"}
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(10)
            assert time.monotonic() - begun < 3
        finally:
            process.kill()
            process.wait()

    def test_runs_beside_a_test(self, tmp_path):
        with running_sandbox(dialect="kie", tiny_stems=True, task_seconds=0, cache_dir=tmp_path) as running:
            assert running.process is not None
            assert running.process.poll() is None
            assert requests.get(f"{running.url}/sandbox/health", timeout=5).json()["dialect"] == "kie"
        assert running.process.poll() is not None

    def test_that_does_not_start_says_why(self):
        with (
            pytest.raises(SandboxError, match="write a rate as 20/10s"),
            running_sandbox(tiny_stems=True, submit_rate="fast"),
        ):
            pass
