from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from airflow_provider_vocalsep.demo.processes import (
    Service,
    ServiceError,
    exit_on_signals,
    stop_services,
    wait_until,
)

#: A parent with a child in its own process group, like Airflow's tasks; both ignore SIGTERM.
STUBBORN_FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def service(tmp_path):
    def make(code: str, **options) -> Service:
        return Service("tester", [sys.executable, "-c", code], log_path=tmp_path / "tester.log", **options)

    return make


class TestService:
    def test_output_goes_to_the_log(self, service):
        with service("print('hello'); import time; time.sleep(60)", grace=1) as running:
            wait_until(lambda: "hello" in running.log_tail(), what="hello", timeout=10, services=[running])

        assert not running.running

    def test_stop_kills_children_that_ignore_sigterm(self, service):
        running = service(STUBBORN_FAMILY, grace=0.1).start()
        wait_until(lambda: len(running.log_tail().split()) == 2, what="both", timeout=10)
        pids = [int(pid) for pid in running.log_tail().split()]
        assert all(map(is_alive, pids))

        running.stop()

        assert not any(map(is_alive, pids))

    def test_several_services_stop_within_one_grace_time(self, service):
        running = [service(STUBBORN_FAMILY, grace=0.6).start() for _ in range(3)]
        started = time.monotonic()

        stop_services(running)

        assert time.monotonic() - started < 1.7
        assert not any(one.running for one in running)

    def test_killed_service_can_be_started_again(self, service):
        running = service("import time; time.sleep(60)").start()
        first = running.process.pid

        running.kill()

        assert not is_alive(first)
        with running:
            assert running.running
            assert running.process.pid != first

    def test_service_ends_when_its_parent_is_killed(self, tmp_path):
        log = tmp_path / "child.log"
        code = f"""
import pathlib, sys, time
from airflow_provider_vocalsep.demo.processes import Service
sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
child = Service("child", [sys.executable, "-c", sleeper], log_path=pathlib.Path({str(log)!r})).start()
time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", code]) as parent:
            wait_until(lambda: log.read_text().strip().isdigit(), what="the child's pid", timeout=10)
            pid = int(log.read_text())
            assert is_alive(pid)
            parent.kill()
        wait_until(lambda: not is_alive(pid), what="the orphan's end", timeout=10)

    def test_missing_program_is_an_error_that_names_the_service(self, tmp_path):
        missing = Service("ghost", [str(tmp_path / "no-such-program")], log_path=tmp_path / "log", grace=1)

        with missing, pytest.raises(ServiceError, match=r"ghost .*(could not be started|ended)"):
            wait_until(lambda: False, what="a ghost", timeout=5, services=[missing])

    def test_service_does_not_inherit_airflow_and_aws_settings(self, service, monkeypatch):
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "Foreign")
        monkeypatch.setenv("AWS_PROFILE", "payroll")
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid")
        code = "import os; print(sorted(os.environ), os.environ['NO_PROXY'], flush=True); input()"
        running = service(code, env={"AIRFLOW_HOME": "/ours"})
        with running:
            wait_until(lambda: "NO_PROXY" in running.log_tail(), what="its environment", timeout=10)

        log = running.log_tail()
        assert "AIRFLOW_HOME" in log
        assert "127.0.0.1" in log
        assert "AIRFLOW__CORE__EXECUTOR" not in log
        assert "AWS_PROFILE" not in log


class TestWaitUntil:
    def test_ended_service_is_an_error_with_the_end_of_its_log(self, service):
        with service("print('no such database'); raise SystemExit(3)") as running:
            with pytest.raises(
                ServiceError, match=r"(?s)tester ended while waiting for miracles.*no such database"
            ):
                wait_until(lambda: False, what="miracles", timeout=10, services=[running])

    def test_time_out_is_an_error_that_names_the_condition(self):
        with pytest.raises(ServiceError, match="Timed out after 0 s waiting for spring"):
            wait_until(lambda: False, what="spring", timeout=0.05, every=0.01)

    def test_refused_connection_counts_as_not_ready(self):
        answers = iter([ConnectionRefusedError(), ConnectionResetError(), None])

        def ready() -> bool:
            if error := next(answers):
                raise error
            return True

        wait_until(ready, what="the third try", timeout=5, every=0.01)


class TestExitOnSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
    def test_signal_exits_through_the_finally_blocks(self, number):
        before = signal.getsignal(number)  # Under nohup, SIGHUP is ignored.
        cleaned_up = []

        def work() -> None:
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                cleaned_up.append(number)

        with exit_on_signals(), pytest.raises(SystemExit) as raised:
            work()

        assert raised.value.code == 128 + number
        assert cleaned_up == [number]
        assert signal.getsignal(number) is before
