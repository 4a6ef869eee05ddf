"""One running Airflow for all live tests, with the sandbox and the S3 server behind its connections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_vocalsep.demo.airflow_settings import USER
from airflow_provider_vocalsep.demo.report import Totals
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from tests.bed.airflow import running_airflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import StatsdServer

    from airflow_provider_vocalsep.demo.airflow_stack import AirflowStack
    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer
    from airflow_provider_vocalsep.sandbox.server import RunningSandbox

HERE = Path(__file__).parent

#: A user without a role, to whom Airflow's simple auth manager grants nothing.
OUTSIDER = "outsider"
DAGS_FOLDERS = [HERE.parents[1] / "dags", HERE / "dags"]


@dataclass(frozen=True)
class DagRun:
    """A DAG run that has ended."""

    airflow: AirflowStack
    dag_id: str
    run_id: str
    state: str

    def tasks(self, task_id: str | None = None) -> list[dict[str, Any]]:
        return self.airflow.api.task_instances(self.dag_id, self.run_id, task_id)

    def xcom(self, task_id: str, map_index: int = -1) -> Any:
        return self.airflow.api.xcom(self.dag_id, self.run_id, task_id, map_index=map_index)

    def log(self, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        return self.airflow.api.log(
            self.dag_id, self.run_id, task_id, map_index=map_index, try_number=try_number
        )

    def clear_and_wait(self, *task_ids: str) -> DagRun:
        """Clear these tasks, or all, and wait until the run has ended again."""
        assert self.airflow.api.clear(self.dag_id, self.run_id, task_ids or None) > 0
        state = self.airflow.api.wait_for_run(self.dag_id, self.run_id, timeout=180)
        return DagRun(self.airflow, self.dag_id, self.run_id, state)


@pytest.fixture(scope="session")
def dags_folders() -> list[Path]:
    """The folder of the example DAGs and that of the tests."""
    return DAGS_FOLDERS


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    sandbox: RunningSandbox,
    seaweed: SeaweedServer,
    statsd_server: StatsdServer,
) -> Iterator[AirflowStack]:
    """A running Airflow with the example DAGs and those of the tests; ``statsd_server`` gets its metrics."""
    with running_airflow(
        tmp_path_factory.mktemp("airflow"),
        dags_folders=DAGS_FOLDERS,
        connections={"vocalsep_default": sandbox_connection(sandbox), "aws_default": seaweed.connection},
        port=None,
        options={
            "metrics": statsd_server.settings,
            "core": {"simple_auth_manager_users": f"{USER}:admin,{OUTSIDER}:"},
        },
    ) as stack:
        yield stack


@pytest.fixture(scope="session")
def outsider() -> str:
    """A user who can log in to the live Airflow and has no permission there."""
    return OUTSIDER


@pytest.fixture
def cost(sandbox: RunningSandbox) -> Callable[[], Totals]:
    """Return what the vendor has booked since the test began."""
    before = Totals.read(sandbox.books())
    return lambda: Totals.read(sandbox.books()) - before


@pytest.fixture
def run_dag(airflow: AirflowStack) -> Callable[..., DagRun]:
    """Run a DAG with parameters and wait until it has ended."""

    def run(dag_id: str, conf: dict[str, Any] | None = None, *, timeout: float = 180) -> DagRun:
        airflow.wait_for_dags([dag_id])
        run_id = airflow.api.trigger(dag_id, conf)
        state = airflow.api.wait_for_run(dag_id, run_id, timeout=timeout)
        return DagRun(airflow, dag_id, run_id, state)

    return run
