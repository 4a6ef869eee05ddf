"""An Airflow on this machine: one process per component, all its data in one folder."""

from __future__ import annotations

import subprocess  # nosec B404: starts our own servers, no shell
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.airflow_api import AirflowApi, AirflowApiError
from airflow_provider_vocalsep.demo.airflow_settings import USER, prepare_database, write_settings
from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port
from airflow_provider_vocalsep.demo.processes import (
    Service,
    ServiceError,
    clean_environment,
    stop_services,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: Airflow's own default for the API server and its UI.
DEFAULT_PORT = 8080

#: Command of each component. All of them share the log files, so no component serves its logs.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


@dataclass(frozen=True)
class AirflowStack:
    """
    A running Airflow.

    :param url: Address of its UI and API.
    :param home: ``AIRFLOW_HOME``.
    :param services: Its processes by the names in :data:`COMPONENTS`; each can be killed and started again.
    """

    url: str
    username: str
    password: str = field(repr=False)
    home: Path
    services: dict[str, Service]
    api: AirflowApi

    def wait_until_healthy(self, *, timeout: float = 120) -> None:
        """
        Wait until every component reports that it is healthy.

        :raises ServiceError: a component has ended, or the time-out is over.
        """
        wait_until(
            lambda: _is_healthy(self.api),
            what="a healthy Airflow",
            timeout=timeout,
            services=list(self.services.values()),
            every=0.25,
        )

    def wait_for_dags(self, dag_ids: Sequence[str], *, timeout: float = 60) -> None:
        """
        Wait until DAGs are parsed.

        :raises ServiceError: a DAG file cannot be imported, or the time-out is over.
        """

        def parsed() -> bool:
            for error in self.api.import_errors():
                raise ServiceError(f"Airflow cannot import {error['filename']}:\n{error['stack_trace']}")
            return all(map(self.api.has_dag, dag_ids))

        wait_until(
            parsed,
            what=f"DAGs {', '.join(dag_ids)}",
            timeout=timeout,
            services=[self.services["dag-processor"]],
            every=0.25,
        )


@contextmanager
def running_airflow(
    home: Path,
    *,
    dags_folders: Sequence[Path],
    connections: Mapping[str, Mapping[str, Any]] | None = None,
    port: int | None = DEFAULT_PORT,
    parallelism: int = 8,
    options: Mapping[str, Mapping[str, str]] | None = None,
    env: Mapping[str, str] | None = None,
    log_dir: Path | None = None,
) -> Iterator[AirflowStack]:
    """
    Run scheduler, DAG processor, triggerer and API server on loopback until the block ends.

    :param home: ``AIRFLOW_HOME``: settings, SQLite database and logs. The same folder keeps the history.
    :param connections: Connections by id, as Airflow's REST API takes them. They are stored in the database,
        so that users can see and change them in the UI.
    :param port: Preferred port of the UI; another free one if it is taken.
    :param parallelism: Number of task processes that run at the same time.
    :param options: Further settings of ``airflow.cfg``, by section and name.
    :param env: Environment variables of all processes.
    :param log_dir: Folder of the processes' own logs.
    :raises ServiceError: a component does not start.
    """
    home = home.resolve()
    log_dir = log_dir or home / "logs" / "services"
    port = free_port(port)
    password = write_settings(
        home, dags_folders=dags_folders, port=port, parallelism=parallelism, options=options or {}
    )
    variables = {"AIRFLOW_HOME": str(home), **(env or {})}
    _migrate_database(home, variables, log_dir / "db-migrate.log")
    services = {
        name: Service(
            f"Airflow {name}",
            _airflow_command(*command),
            grace=3,
            log_path=log_dir / f"airflow-{name}.log",
            env=variables,
        )
        for name, command in COMPONENTS.items()
    }
    url = f"http://{LOOPBACK}:{port}"
    stack = AirflowStack(url, USER, password, home, services, AirflowApi(url, USER, password))
    try:
        # The scheduler starts last: tasks still queued from an earlier run need the connections.
        others = [service for name, service in services.items() if name != "scheduler"]
        for service in others:
            service.start()
        wait_until(
            lambda: _is_healthy(stack.api, "metadatabase"),
            what="Airflow's API server",
            timeout=120,
            services=others,
            every=0.25,
        )
        stack.api.put_connections(connections or {})
        services["scheduler"].start()
        stack.wait_until_healthy()
        yield stack
    finally:
        stop_services(list(services.values()))


def _airflow_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _migrate_database(home: Path, variables: Mapping[str, str], log_path: Path) -> None:
    """Bring the database to this Airflow's schema, unless it is: the command takes five seconds."""
    current = f"airflow {version('apache-airflow-core')}"
    stamp = home / "database-version"
    if stamp.exists() and stamp.read_text() == current:
        return
    prepare_database(home)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        code = subprocess.run(  # noqa: S603
            _airflow_command("db", "migrate"),
            env={**clean_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code:
        raise ServiceError(
            f"Airflow's database in {home} could not be prepared (exit code {code}): see {log_path}."
        )
    stamp.write_text(current)


def _is_healthy(api: AirflowApi, *components: str) -> bool:
    """Return whether the given components of Airflow are healthy, by default all."""
    try:
        health = api.health()
    except AirflowApiError:
        return False
    all_components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all(health.get(name) == "healthy" for name in components or all_components)
