"""A real PostgreSQL on this machine, as the database of an Airflow: for tests and measurements."""

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

#: Where Debian keeps the server's programs, which are not on the path there.
DEBIAN_PROGRAMS = "/usr/lib/postgresql"

#: The account that Debian's package makes. The server refuses to run as root.
ACCOUNT = "postgres"

#: Airflow's processes hold a pool of connections each.
MAX_CONNECTIONS = 200


@dataclass(frozen=True)
class PostgresServer:
    """
    A running PostgreSQL with one empty database.

    :param url: Its SQLAlchemy address.
    :param service: The process; it can be killed and started again.
    """

    url: str
    service: Service

    def wait_until_ready(self) -> None:
        """
        Wait until it takes connections.

        :raises ServiceError: if it ends, or half a minute is over.
        """
        ready = [_program("pg_isready"), "--quiet", "--dbname", self.url.replace("+psycopg2", "")]
        wait_until(
            lambda: subprocess.run(ready, check=False).returncode == 0,
            what="PostgreSQL",
            timeout=30,
            services=[self.service],
        )


def postgres_installed() -> bool:
    """Return whether the server's programs are on this machine."""
    try:
        return bool(_program("initdb"))
    except ServiceError:
        return False


@contextmanager
def running_postgres(log_path: Path) -> Iterator[PostgresServer]:
    """
    Run a new PostgreSQL on loopback until the block ends, and forget its data then.

    It survives being killed, not a power cut: nothing is synchronised to the disk.

    :param log_path: Its log file.
    :raises ServiceError: if it is not installed or does not get ready.
    """
    # A folder of its own: what pytest and others make may be closed to the account it runs as.
    folder = Path(tempfile.mkdtemp(prefix="vocalsep-postgres-"))
    try:
        make_cluster(folder)
        port = free_port(None)
        command = [
            *(*as_account(), _program("postgres"), *cluster_options(folder)),
            *("-p", str(port), "-c", f"max_connections={MAX_CONNECTIONS}"),
        ]
        with Service("PostgreSQL", command, log_path=log_path) as service:
            server = PostgresServer(f"postgresql+psycopg2://{ACCOUNT}@{LOOPBACK}:{port}/{ACCOUNT}", service)
            server.wait_until_ready()
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_cluster(folder: Path, *, user: str = ACCOUNT, database: str = ACCOUNT) -> None:
    """
    Make the files of a server that trusts whoever reaches it.

    :param folder: For its data and its socket; handed to the account that it runs as.
    :param user: Its superuser.
    :param database: A database of theirs.
    :raises ServiceError: if it is not installed or cannot.
    """
    data = str(folder / "data")
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    _run(
        [
            *(*as_account(), _program("initdb")),
            *("--auth=trust", "--encoding=UTF8", "--no-sync", "-U", user, "-D", data),
        ]
    )
    if database != "postgres":
        _run(
            [*as_account(), _program("postgres"), "--single", "-F", "-D", data, "postgres"],
            f"CREATE DATABASE {database};\n",
        )


def cluster_options(folder: Path) -> list[str]:
    """
    Return the server's options for what :func:`make_cluster` made; nothing is synchronised to the disk.

    :param folder: As given there.
    """
    return [
        *("-D", str(folder / "data"), "-k", str(folder), "-h", LOOPBACK),
        *("-c", "fsync=off", "-c", "full_page_writes=off"),
    ]


def _program(name: str) -> str:
    folders = sorted(Path(DEBIAN_PROGRAMS).glob("*/bin"), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))
    if path is None:
        raise ServiceError("PostgreSQL is not installed: apt-get install postgresql.")
    return path


def as_account() -> list[str]:
    """Return the command prefix under which the server runs."""
    if os.geteuid() != 0:
        return []
    return [
        "setpriv",
        f"--reuid={ACCOUNT}",
        f"--regid={ACCOUNT}",
        "--init-groups",
        "--pdeathsig",
        "INT",
        "--",
    ]


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(
        command, env=clean_environment(), cwd="/", input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"PostgreSQL's files could not be made: {done.stderr.strip()}")
