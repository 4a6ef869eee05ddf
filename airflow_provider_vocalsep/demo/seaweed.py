"""A real S3 server on this machine: SeaweedFS, one process, ready in about a second."""

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
from airflow_provider_vocalsep.demo.secret import kept_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_s3 import S3Client

#: SeaweedFS's own default for S3.
DEFAULT_PORT = 8333

#: Every port it opens; one that is not named it takes unasked, the gRPC ones 10000 above their twins.
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

#: Where it leaves a socket for each port, whatever ``TMPDIR`` says.
SOCKETS = Path("/tmp")  # noqa: S108

#: Object that proves that the server takes writes: it answers before its buckets do.
PROBE_KEY = ".vocalsep-probe"

#: Any name will do; clients insist on one.
REGION = "us-east-1"


@dataclass(frozen=True)
class SeaweedServer:
    """
    A running S3 server.

    :param endpoint_url: Its address, ``http://127.0.0.1:…``.
    :param access_key: Access key id of its only user.
    :param secret_key: Secret access key of its only user.
    :param buckets: The buckets that were there from the start.
    :param service: The process.
    """

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    buckets: tuple[str, ...]
    service: Service

    def client(self, **config: Any) -> S3Client:
        """
        Return an S3 client of this server.

        :param config: Options of :class:`botocore.config.Config`.
        """
        return s3_client(self.endpoint_url, self.access_key, self.secret_key, **config)

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection of this server, in the shape of Airflow's REST API."""
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

    :param directory: Where it keeps its data and its key; the same directory brings the same objects back.
    :param buckets: Buckets that exist once it is ready.
    :param port: Port to take if it is free.
    :param log_path: Its log file; ``seaweed.log`` in the directory by default.
    :raises ServiceError: if it is not installed or does not get ready.
    """
    directory = directory.resolve()
    (directory / "data").mkdir(parents=True, exist_ok=True)
    access_key = "vocalsep"  # shorter ones make Airflow warn that it cannot mask them
    secret_key = kept_secret(directory / "secret-key")
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
            _wait_until_it_takes_writes(server)
            yield server
    finally:
        remove_sockets(ports.values())


def s3_client(endpoint_url: str, access_key: str, secret_key: str, **config: Any) -> S3Client:
    """
    Return an S3 client of a server of one's own.

    :param endpoint_url: Its address.
    :param access_key: Access key id.
    :param secret_key: Secret access key.
    :param config: Options of :class:`botocore.config.Config`.
    """
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, **config),
    )


def remove_sockets(ports: Iterable[int]) -> None:
    """
    Remove what a SeaweedFS that has ended leaves outside its folder.

    :param ports: Its ports.
    """
    for used in ports:
        for socket in SOCKETS.glob(f"seaweedfs-*-{used}.sock"):
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
    """Find the server's program: beside this interpreter first, as pip puts it there."""
    program = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if program is None:
        raise ServiceError("SeaweedFS is not installed: pip install 'airflow-provider-vocalsep[demo]'.")
    return program


def _wait_until_it_takes_writes(server: SeaweedServer) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5)

    def ready() -> bool:
        try:
            for bucket in server.buckets:
                client.put_object(Bucket=bucket, Key=PROBE_KEY, Body=b"")
                client.delete_object(Bucket=bucket, Key=PROBE_KEY)
        except (BotoCoreError, ClientError):
            return False
        return True

    wait_until(ready, what="the S3 server's first successful write", timeout=60, services=[server.service])
