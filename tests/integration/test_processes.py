"""Commands, plugin and sandbox in processes of their own: their imports, output and exit codes."""

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
NO_CREDENTIALS = {"AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
NO_SERVER = ("--endpoint-url", "http://127.0.0.1:9")


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
class TestCommand:
    def test_help_imports_neither_airflow_nor_boto3(self, command):
        code = (
            "import sys; from airflow_provider_vocalsep.cli.main import main; "
            f"main([{command!r}, '--help'], standalone_mode=False); "
            "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'boto3', 'pydantic')])"
        )
        assert python("-c", code).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (NO_SERVER, "for a store other than AWS --endpoint-url."),
            (("--endpoint-url", "127.0.0.1"), "Check --profile and --endpoint-url."),
            (("--profile", "nobody"), "The config profile (nobody) could not be found. Check --profile"),
        ],
        ids=["no server", "no address", "no profile"],
    )
    def test_wrong_connection_is_an_error_with_its_remedy(self, call, command, options, message):
        ended = python(
            *VOCALSEP,
            *call(command, "s3://stems/music"),
            *options,
            **CREDENTIALS,
            AWS_MAX_ATTEMPTS="1",
            AWS_CONFIG_FILE="/dev/null",
        )

        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert message in ended.stderr

    def test_missing_credentials_are_an_error_with_its_remedy(self, call, command):
        ended = python(*VOCALSEP, *call(command, "s3://stems/music"), **NO_CREDENTIALS)

        assert ended.returncode == 2, ended.stderr
        assert "Unable to locate credentials. Check the credentials" in ended.stderr


class TestAirflowCommand:
    def test_standard_output_has_only_the_command_s_output(self):
        cli_parser = pytest.importorskip("airflow.cli.cli_parser")
        if "vocalsep" not in {command.name for command in cli_parser.airflow_commands}:
            pytest.skip("providers have commands since Airflow 3.2")
        ended = python(
            *("-m", "airflow", "vocalsep", "show", "s3://stems/music", "x", *NO_SERVER),
            **{**os.environ, **CREDENTIALS, "AWS_MAX_ATTEMPTS": "1"},
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "for a store other than AWS --endpoint-url." in ended.stderr

    def test_list_of_commands_imports_neither_boto3_nor_pydantic(self):
        code = (
            "import sys; import airflow.cli.cli_config; "
            "from airflow_provider_vocalsep.cli.airflow_commands import airflow_commands; "
            "before = set(sys.modules); airflow_commands(); "
            "slow = ('boto3', 'botocore', 'pydantic', 'rich'); "
            "print([m for m in set(sys.modules) - before if m.split('.')[0] in slow])"
        )
        assert python("-c", code, **os.environ).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize(
        ("command", "setting", "warm"),
        [("scheduler", "True", True), ("scheduler", "False", False), ("api-server", "True", False)],
    )
    def test_scheduler_imports_the_modules_of_tasks_before_it_forks(self, command, setting, warm):
        code = (
            f"import sys; sys.argv = ['airflow', {command!r}]\n"
            "from airflow_provider_vocalsep.plugin import VocalSepPlugin\n"
            "VocalSepPlugin.on_load()\n"
            f"print(*(module in sys.modules for module in {TASK_MODULES!r}))"
        )
        done = python("-c", code, **{**os.environ, "AIRFLOW__VOCALSEP__WARM_TASK_PROCESSES": setting})
        assert done.stdout.split()[-len(TASK_MODULES) :] == [str(warm)] * len(TASK_MODULES)


class TestSandbox:
    def test_sandbox_prints_its_address_and_ends_soon_after_sigterm(self, tmp_path):
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
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(10)
            assert time.monotonic() - began < 3
        finally:
            process.kill()
            process.wait()

    def test_running_sandbox_is_a_process_of_its_own(self, tmp_path):
        with running_sandbox(dialect="kie", tiny_stems=True, task_seconds=0, cache_dir=tmp_path) as running:
            assert running.process is not None
            assert running.process.poll() is None
            assert requests.get(f"{running.url}/sandbox/health", timeout=5).json()["dialect"] == "kie"
        assert running.process.poll() is not None

    def test_sandbox_that_does_not_start_is_an_error_with_the_reason(self):
        with (
            pytest.raises(SandboxError, match="write a rate as 20/10s"),
            running_sandbox(tiny_stems=True, submit_rate="fast"),
        ):
            pass
