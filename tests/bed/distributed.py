"""The distributed stack of ``docker-compose.yaml`` on this machine, without Docker: for tests and measurements."""

from __future__ import annotations

import base64
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.airflow_api import AirflowApi, AirflowApiError
from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.demo.processes import ServiceError, wait_until
from airflow_provider_vocalsep.sandbox.server import RunningSandbox
from airflow_provider_vocalsep.storage.clients import client_with_keys
from tests.bed.compose import load_compose
from tests.bed.native import NativeStack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

#: The checkout: only there are the files.
PROJECT = Path(__file__).parents[2]
COMPOSE_FILES = (PROJECT / "docker-compose.yaml", PROJECT / ".docker" / "bed.yaml")

#: Everything that runs; ``demo`` is run by whoever wants it.
SERVICES = (
    *("postgres", "redis", "s3", "sandbox", "quick-sandbox", "slow-sandbox"),
    *("api-server", "scheduler", "dag-processor", "triggerer", "worker"),
)

#: What is reached through a proxy: Airflow's API, the vendor's way to it, the vendor, the object storage.
PROXIED = ("api-server", "receiver", "sandbox", "quick-sandbox", "slow-sandbox", "s3")

BUCKET = "stems"
USER = "admin"
S3_ACCESS_KEY = "vocalsep"


@dataclass(frozen=True)
class Distributed:
    """
    The running stack. What is here speaks to the servers directly, past the proxies.

    :param stack: Its processes and proxies.
    :param api: Airflow's REST API, of the last API server.
    :param quick_sandbox: The vendor of ``vocalsep_quick``, which takes three seconds and calls back.
    :param slow_sandbox: That of ``vocalsep_slow``, which takes half a minute and does not.
    :param s3: Client of the object storage, with the bucket ``stems``.
    :param database: Address of Airflow's database, for psycopg2.
    """

    stack: NativeStack
    api: AirflowApi
    quick_sandbox: RunningSandbox
    slow_sandbox: RunningSandbox
    s3: S3Client
    database: str = field(repr=False)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """
        Ask Airflow's database.

        :param sql: The query.
        :param values: Its parameters.
        """
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
        Wait until every component of Airflow is healthy, and all triggerers and workers are there.

        :param timeout: Seconds.
        :raises ServiceError: if they are not by then, or one of them has ended.
        """
        wait_until(
            self.healthy,
            what="all of Airflow to be healthy",
            timeout=timeout,
            services=list(self.stack.instances.values()),
            every=0.5,
        )

    def healthy(self) -> bool:
        """Tell whether every component of Airflow is healthy, and all triggerers and workers are there."""
        try:
            health = self.api.health()
        except AirflowApiError:
            return False
        workers = [self.stack.instances[name] for name in self.stack.names("worker")]
        return (
            all(
                health.get(n) == "healthy"
                for n in ("metadatabase", "scheduler", "triggerer", "dag_processor")
            )
            and len(self.live_triggerers()) == len(self.stack.names("triggerer"))
            and all(" ready." in worker.log_tail(1_000_000) for worker in workers)
        )

    def live_triggerers(self) -> dict[str, int]:
        """Return the job ids of triggerers with a heartbeat in the last ten seconds, by instance."""
        return dict(
            self.rows(
                "SELECT hostname, max(id) FROM job WHERE job_type = 'TriggererJob' AND state = 'running'"
                " AND latest_heartbeat > now() - interval '10 seconds' GROUP BY hostname"
            )
        )


def new_secrets() -> dict[str, str]:
    """Return what ``.docker/make-env`` prints: new secrets for every variable that the compose file asks for."""
    names = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_KEY", "SANDBOX_API_KEY", "CALLBACK_SECRET",
             "API_SECRET_KEY", "JWT_SECRET", "AIRFLOW_PASSWORD")  # fmt: skip
    return {
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **{name: secrets.token_hex(32) for name in names},
    }


@contextmanager
def running_distributed(
    home: Path, *, replicas: Mapping[str, int] | None = None, proxied: Collection[str] = PROXIED
) -> Iterator[Distributed]:
    """
    Run the stack until the block ends: about half a minute until it is up.

    :param home: Folder for everything that it keeps.
    :param replicas: How many of which service, where it is not to be as many as the files say.
    :param proxied: Names that are reached through a fault proxy.
    :raises ServiceError: if a service does not get healthy.
    """
    if not COMPOSE_FILES[0].exists():
        raise ServiceError(f"{COMPOSE_FILES[0]} is not there: this runs in a checkout only.")
    variables = new_secrets()
    services = load_compose(COMPOSE_FILES, variables)
    for name, count in (replicas or {}).items():
        services[name] = replace(services[name], replicas=count)
    with NativeStack(services, project=PROJECT, home=home, proxied=proxied) as stack:
        stack.up(*SERVICES)

        def direct(instance: str) -> str:
            return f"http://{LOOPBACK}:{stack.direct_port(instance)}"

        stack.wait_until_healthy("s3", "sandbox", "quick-sandbox", "slow-sandbox")
        running = Distributed(
            stack=stack,
            api=AirflowApi(direct(stack.names("api-server")[-1]), USER, variables["AIRFLOW_PASSWORD"]),
            quick_sandbox=RunningSandbox(direct("quick-sandbox"), variables["SANDBOX_API_KEY"]),
            slow_sandbox=RunningSandbox(direct("slow-sandbox"), variables["SANDBOX_API_KEY"]),
            s3=client_with_keys(direct("s3"), S3_ACCESS_KEY, variables["S3_SECRET_KEY"]),
            database=f"postgresql://airflow@{LOOPBACK}:{stack.direct_port('postgres')}/airflow",
        )
        running.wait_until_healthy()
        yield running
