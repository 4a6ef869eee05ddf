"""A whole Airflow with PostgreSQL for measurements, and what its processes cost."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2

from tests.bed.airflow import running_airflow
from tests.bed.postgres import running_postgres
from tests.bed.seaweed import running_seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.airflow_stack import AirflowStack

HERE = Path(__file__).parent


@dataclass
class Stack:
    """
    The stack.

    :param airflow: Airflow: LocalExecutor, four components, a process each.
    :param database: Address of its database, for psycopg2.
    :param s3: Client of the S3 server; ``aws_default`` is its connection.
    """

    airflow: AirflowStack
    database: str
    s3: S3Client

    def ask(self, sql: str, *values: Any) -> Any:
        """Return the first row of a query."""
        connection = psycopg2.connect(self.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchone()
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """Return the CPU time of all Airflow processes so far, ended task processes included."""
        return sum(
            sum(process.cpu_times()[:4])
            for service in self.airflow.services.values()
            for process in _family(service.process.pid)
        )

    def memory(self, component: str) -> int:
        """Return the bytes of a component and its children, shared pages counted once per share (PSS)."""
        return sum(p.memory_full_info().pss for p in _family(self.airflow.services[component].process.pid))


@contextmanager
def running_stack(
    folder: Path,
    *,
    dags: list[str],
    parallelism: int = 8,
    options: dict[str, dict[str, str]] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Stack]:
    """
    Run it until the block ends.

    :param folder: For everything that it keeps.
    :param dags: DAGs of ``benchmarks/dags`` that are to be there.
    :param parallelism: Task processes at once.
    :param options: More of ``airflow.cfg``.
    :param env: Variables of all Airflow processes.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(folder / "postgres.log"))
        seaweed = stack.enter_context(running_seaweed(folder / "s3"))
        airflow = stack.enter_context(
            running_airflow(
                folder / "airflow",
                dags_folders=[HERE / "dags"],
                connections={"aws_default": seaweed.connection},
                port=None,
                parallelism=parallelism,
                options={
                    "database": {"sql_alchemy_conn": postgres.url},
                    # Airflow's own defaults: the demo looks for changed DAGs all the time, which takes a core
                    # to itself.
                    "dag_processor": {"min_file_process_interval": "30", "refresh_interval": "300"},
                    **(options or {}),
                },
                env=env,
            )
        )
        airflow.wait_for_dags(dags)
        yield Stack(airflow, postgres.url.replace("+psycopg2", ""), seaweed.client())


def settled(stack: Stack, seconds: float) -> float:
    """Return the CPU seconds that the idle Airflow takes in a second."""
    before, began = stack.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (stack.cpu_seconds() - before) / (time.monotonic() - began)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
