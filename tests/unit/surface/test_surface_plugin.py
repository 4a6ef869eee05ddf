from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_vocalsep.plugin import WANTED_BY_TASKS, forks_task_processes


@pytest.mark.parametrize(
    ("command", "does"),
    [
        (["airflow", "scheduler"], True),
        (["/usr/bin/airflow", "scheduler", "--skip-serve-logs"], True),
        (["airflow", "celery", "worker", "-q", "stems"], True),
        (["airflow", "celery", "flower"], False),
        (["airflow", "api-server"], False),
        (["airflow", "triggerer"], False),
        (["airflow", "dags", "list"], False),
    ],
)
def test_processes_whose_forks_run_tasks_are_known(command, does):
    assert forks_task_processes(command) is does


@pytest.mark.parametrize(
    ("command", "setting", "warm"),
    [("scheduler", "True", True), ("scheduler", "False", False), ("api-server", "True", False)],
)
def test_what_tasks_import_is_imported_where_they_are_forked(command, setting, warm):
    script = (
        f"import os, sys; sys.argv = ['airflow', {command!r}]; os.environ['AIRFLOW__VOCALSEP__WARM_TASK_PROCESSES'] = {setting!r}\n"
        "from airflow_provider_vocalsep.plugin import VocalSepPlugin\n"
        "VocalSepPlugin.on_load()\n"
        f"print(*(module in sys.modules for module in {WANTED_BY_TASKS!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split()[-len(WANTED_BY_TASKS) :] == [str(warm)] * len(WANTED_BY_TASKS)
