"""An Airflow with PostgreSQL for benchmarks, with the CPU time and memory of its processes."""

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
    The running stack.

    :param airflow: Airflow with LocalExecutor and one process per component.
    :param database: Address of Airflow's database, for psycopg2.
    :param s3: Client of the S3 server, whose Airflow connection is ``aws_default``.
    """

    airflow: AirflowStack
    database: str
    s3: S3Client

    def query_row(self, sql: str, *values: Any) -> Any:
        """Return the first row of a query."""
        connection = psycopg2.connect(self.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchone()
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """Return the CPU time of all Airflow processes so far, including ended task processes."""
        return sum(
            sum(process.cpu_times()[:4])
            for service in self.airflow.services.values()
            for process in _with_children(service.process.pid)
        )

    def memory(self, component: str) -> int:
        """Return the memory of a component and its children in bytes, with shared pages divided (PSS)."""
        processes = _with_children(self.airflow.services[component].process.pid)
        return sum(process.memory_full_info().pss for process in processes)


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
    Run the stack until the block ends.

    :param folder: Folder of all its data.
    :param dags: DAGs of ``benchmarks/dags`` that must be parsed first.
    :param parallelism: Number of task processes that run at the same time.
    :param options: Further settings of ``airflow.cfg``.
    :param env: Environment variables of all Airflow processes.
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
                    # Airflow's defaults. The demo parses DAGs more often, which takes a whole core.
                    "dag_processor": {"min_file_process_interval": "30", "refresh_interval": "300"},
                    **(options or {}),
                },
                env=env,
            )
        )
        airflow.wait_for_dags(dags)
        yield Stack(airflow, postgres.url.replace("+psycopg2", ""), seaweed.client())


def measure_idle_cpu(stack: Stack, seconds: float) -> float:
    """Return the CPU seconds per second of the idle Airflow."""
    before, began = stack.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (stack.cpu_seconds() - before) / (time.monotonic() - began)


def _with_children(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
