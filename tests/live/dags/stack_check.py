"""A DAG that uses every component of the running Airflow, and nothing of the provider."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseHook, BaseOperator, task


class ParkOperator(BaseOperator):
    """Waits in the triggerer long enough for a test to see it there."""

    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=6)), method_name="resume")

    def resume(self, context, event):
        return "resumed"


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
    ParkOperator(task_id="park")
