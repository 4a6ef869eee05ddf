"""A PostgreSQL on this machine as Airflow's database, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404: starts our own servers, no shell
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port
from airflow_provider_vocalsep.demo.processes import Service, ServiceError, clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Folder of Debian's server programs, which is not on ``PATH``.
DEBIAN_PROGRAMS = "/usr/lib/postgresql"

#: Account that Debian's package creates. The server refuses to run as root.
ACCOUNT = "postgres"

#: Each of Airflow's processes holds a pool of connections.
MAX_CONNECTIONS = 200


@dataclass(frozen=True)
class PostgresServer:
    """
    A running PostgreSQL with one empty database.

    :param url: SQLAlchemy address of the database.
    :param service: The process; it can be killed and started again.
    """

    url: str
    service: Service

    def wait_until_ready(self) -> None:
        """
        Wait until the server accepts connections.

        :raises ServiceError: the server has ended, or 30 seconds are over.
        """
        command = [_find_program("pg_isready"), "--quiet", "--dbname", self.url.replace("+psycopg2", "")]
        wait_until(
            lambda: subprocess.run(command, check=False).returncode == 0,
            what="PostgreSQL",
            timeout=30,
            services=[self.service],
        )


def postgres_installed() -> bool:
    """Return whether the server's programs are installed."""
    try:
        return bool(_find_program("initdb"))
    except ServiceError:
        return False


@contextmanager
def running_postgres(log_path: Path) -> Iterator[PostgresServer]:
    """
    Run a new PostgreSQL on loopback until the block ends, then delete its data.

    It survives SIGKILL but not a power failure, because it does not synchronise to the disk.

    :raises ServiceError: PostgreSQL is not installed or does not start.
    """
    # Not pytest's folder: the server's account may have no access to it.
    folder = Path(tempfile.mkdtemp(prefix="vocalsep-postgres-"))
    try:
        create_cluster(folder)
        port = free_port(None)
        command = [
            *(*account_prefix(), _find_program("postgres"), *cluster_options(folder)),
            *("-p", str(port), "-c", f"max_connections={MAX_CONNECTIONS}"),
        ]
        with Service("PostgreSQL", command, log_path=log_path) as service:
            server = PostgresServer(f"postgresql+psycopg2://{ACCOUNT}@{LOOPBACK}:{port}/{ACCOUNT}", service)
            server.wait_until_ready()
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_cluster(folder: Path, *, user: str = ACCOUNT, database: str = ACCOUNT) -> None:
    """
    Create the files of a server that accepts every connection without a password.

    :param folder: Folder of its data and its socket; its owner becomes the server's account.
    :param user: Superuser.
    :param database: Database to create.
    :raises ServiceError: PostgreSQL is not installed, or the files cannot be created.
    """
    data = str(folder / "data")
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "-U", user, "-D", data]
    _run([*account_prefix(), _find_program("initdb"), *options])
    if database != "postgres":
        _run(
            [*account_prefix(), _find_program("postgres"), "--single", "-F", "-D", data, "postgres"],
            f"CREATE DATABASE {database};\n",
        )


def cluster_options(folder: Path) -> list[str]:
    """Return the server's options for the files of :func:`create_cluster`, without synchronising to disk."""
    return [
        *("-D", str(folder / "data"), "-k", str(folder), "-h", LOOPBACK),
        *("-c", "fsync=off", "-c", "full_page_writes=off"),
    ]


def _find_program(name: str) -> str:
    folders = sorted(Path(DEBIAN_PROGRAMS).glob("*/bin"), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))
    if path is None:
        raise ServiceError("PostgreSQL is not installed: apt-get install postgresql.")
    return path


def account_prefix() -> list[str]:
    """Return the command prefix that runs a program under the server's account; empty if we are not root."""
    if os.geteuid() != 0:
        return []
    account = [f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups"]
    return ["setpriv", *account, "--pdeathsig", "INT", "--"]


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(
        command, env=clean_environment(), cwd="/", input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"PostgreSQL's files could not be created: {done.stderr.strip()}")
