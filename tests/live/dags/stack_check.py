"""Touches every component of the running Airflow, with nothing of ours."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, BaseHook, task

with DAG("stack_check", schedule=None, catchup=False):

    @task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @task
    def double(x: int) -> int:
        return 2 * x

    @task
    def connection_extra() -> dict:
        return BaseHook.get_connection("vocalsep_default").extra_dejson

    double.expand(x=numbers())
    connection_extra()
    TimeDeltaSensor(task_id="park", delta=timedelta(seconds=3), deferrable=True)
