"""The distributed stack of ``docker-compose.yaml`` without Docker, for tests and benchmarks."""

from __future__ import annotations

import base64
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.airflow_api import AirflowApi, AirflowApiError
from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.sandbox.server import RunningSandbox
from airflow_provider_vocalsep.storage.clients import client_with_keys
from tests.bed.compose import load_compose
from tests.bed.native import NativeStack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

PROJECT = Path(__file__).parents[2]
COMPOSE_FILES = (PROJECT / "docker-compose.yaml", PROJECT / ".docker" / "bed.yaml")

#: All services that keep running; ``init`` and ``demo`` run once.
SERVICES = (
    *("postgres", "redis", "s3", "sandbox", "quick-sandbox", "slow-sandbox"),
    *("api-server", "scheduler", "dag-processor", "triggerer", "worker"),
)

#: Host names that are reached through a fault proxy. ``receiver`` is the API server as the vendor reaches it.
PROXIED = ("api-server", "receiver", "sandbox", "quick-sandbox", "slow-sandbox", "s3")

#: Variables of the compose file that hold a secret in hexadecimal.
HEX_SECRETS = (
    *("POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_KEY", "SANDBOX_API_KEY", "CALLBACK_SECRET"),
    *("API_SECRET_KEY", "JWT_SECRET", "AIRFLOW_PASSWORD"),
)

BUCKET = "stems"
USER = "admin"
S3_ACCESS_KEY = "vocalsep"


@dataclass(frozen=True)
class Distributed:
    """
    The running stack. Its clients reach the servers directly, without the proxies.

    :param api: REST API of the last API server.
    :param quick_sandbox: Vendor of the connection ``vocalsep_quick``: takes three seconds and calls back.
    :param slow_sandbox: Vendor of the connection ``vocalsep_slow``: takes 30 seconds and does not call back.
    :param s3: Client of the object storage.
    :param database: Address of Airflow's database, for psycopg2.
    """

    stack: NativeStack
    api: AirflowApi
    quick_sandbox: RunningSandbox
    slow_sandbox: RunningSandbox
    s3: S3Client
    database: str = field(repr=False)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query of Airflow's database."""
        import psycopg2  # type: ignore[import-untyped]

        connection = psycopg2.connect(self.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def wait_until_healthy(self, *, timeout: float = 120) -> None:
        """
        Wait until every component of Airflow is healthy, including all triggerers and workers.

        :raises ServiceError: a process has ended, or the time-out is over.
        """
        wait_until(
            self.healthy,
            what="a healthy Airflow",
            timeout=timeout,
            services=list(self.stack.instances.values()),
            every=0.5,
        )

    def healthy(self) -> bool:
        """Return whether every component of Airflow is healthy, including all triggerers and workers."""
        try:
            health = self.api.health()
        except AirflowApiError:
            return False
        workers = [self.stack.instances[name] for name in self.stack.names("worker")]
        components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return (
            all(health.get(component) == "healthy" for component in components)
            and len(self.live_triggerers()) == len(self.stack.names("triggerer"))
            and all(" ready." in worker.log_tail(1_000_000) for worker in workers)
        )

    def live_triggerers(self) -> dict[str, int]:
        """Return the job id of each triggerer with a heartbeat in the last ten seconds, by instance name."""
        return dict(
            self.rows(
                "SELECT hostname, max(id) FROM job WHERE job_type = 'TriggererJob' AND state = 'running'"
                " AND latest_heartbeat > now() - interval '10 seconds' GROUP BY hostname"
            )
        )


def generate_secrets() -> dict[str, str]:
    """Return a new secret for every variable that the compose file requires, like ``.docker/make-env``."""
    return {
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **{name: secrets.token_hex(32) for name in HEX_SECRETS},
    }


@contextmanager
def running_distributed(
    home: Path, *, replicas: Mapping[str, int] | None = None, proxied: Collection[str] = PROXIED
) -> Iterator[Distributed]:
    """
    Run the stack until the block ends. It starts in about 30 seconds.

    :param home: Folder of all its data.
    :param replicas: Number of instances by service; overrides the compose files.
    :param proxied: Host names that are reached through a fault proxy.
    :raises ServiceError: a service does not become healthy.
    """
    variables = generate_secrets()
    services = load_compose(COMPOSE_FILES, variables)
    for name, count in (replicas or {}).items():
        services[name] = replace(services[name], replicas=count)
    with NativeStack(services, project=PROJECT, home=home, proxied=proxied) as stack:
        stack.up(*SERVICES)

        def direct_url(instance: str) -> str:
            return f"http://{LOOPBACK}:{stack.direct_port(instance)}"

        stack.wait_until_healthy("s3", "sandbox", "quick-sandbox", "slow-sandbox")
        running = Distributed(
            stack=stack,
            api=AirflowApi(direct_url(stack.names("api-server")[-1]), USER, variables["AIRFLOW_PASSWORD"]),
            quick_sandbox=RunningSandbox(direct_url("quick-sandbox"), variables["SANDBOX_API_KEY"]),
            slow_sandbox=RunningSandbox(direct_url("slow-sandbox"), variables["SANDBOX_API_KEY"]),
            s3=client_with_keys(direct_url("s3"), S3_ACCESS_KEY, variables["S3_SECRET_KEY"]),
            database=f"postgresql://airflow@{LOOPBACK}:{stack.direct_port('postgres')}/airflow",
        )
        running.wait_until_healthy()
        yield running
