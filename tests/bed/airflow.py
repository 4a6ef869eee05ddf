"""The demo's Airflow with the parts of its REST API that only tests and benchmarks call."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo import airflow_stack
from airflow_provider_vocalsep.demo.airflow_api import (
    AirflowApi,
    AirflowApiError,
    dag_run_path,
    describe_task,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from airflow_provider_vocalsep.demo.airflow_api import Json
    from airflow_provider_vocalsep.demo.airflow_stack import AirflowStack

#: States that a task instance leaves only if a user clears it.
TASK_ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


class BedAirflowApi(AirflowApi):
    """A client that also clears tasks, reads XComs and waits for single task instances."""

    def clear(self, dag_id: str, run_id: str, task_ids: Collection[str] | None = None) -> int:
        """
        Clear all task instances of a run, or those of some tasks, so that they run again.

        :return: Number of task instances cleared.
        """
        body: Json = {
            "dry_run": False,
            "dag_run_id": run_id,
            "reset_dag_runs": True,
            "only_failed": False,
        }
        if task_ids is not None:
            body["task_ids"] = list(task_ids)
        cleared = self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)
        return len(cleared["task_instances"])

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return an XCom of a task instance, by default its return value."""
        return self.request(
            "GET",
            f"{dag_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}",
            params={"map_index": map_index, "deserialize": "false"},
        )["value"]

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str],
        *,
        map_index: int = -1,
        timeout: float = 120,
        every: float = 0.1,
    ) -> Json:
        """
        Wait until a task instance is in one of the given states, and return it.

        :raises AirflowApiError: at the time-out, or when the task instance has ended in another state.
        """
        deadline = time.monotonic() + timeout
        while True:
            instances = self.task_instances(dag_id, run_id, task_id)
            instance = next((ti for ti in instances if ti["map_index"] == map_index), None)
            if instance is not None and instance["state"] in states:
                return instance
            ended = instance is not None and instance["state"] in TASK_ENDED
            if ended or time.monotonic() > deadline:
                current = describe_task(instance) if instance else "missing"
                raise AirflowApiError(
                    f"Waited for {task_id} of {run_id} to be {' or '.join(states)}; it is {current}."
                )
            time.sleep(every)


@contextmanager
def running_airflow(home: Path, **settings: Any) -> Iterator[AirflowStack]:
    """
    Run the demo's Airflow until the block ends; its ``api`` is a :class:`BedAirflowApi`.

    :param settings: As for :func:`airflow_provider_vocalsep.demo.airflow_stack.running_airflow`.
    """
    with airflow_stack.running_airflow(home, **settings) as stack:
        yield replace(stack, api=BedAirflowApi(stack.url, stack.username, stack.password))
