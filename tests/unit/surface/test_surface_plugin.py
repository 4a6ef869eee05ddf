from __future__ import annotations

import pytest

from airflow_provider_vocalsep.plugin import forks_task_processes


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
