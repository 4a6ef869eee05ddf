"""The demo's S3 server with a plain boto3 client for tests and benchmarks."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.demo import seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class BedSeaweedServer(seaweed.SeaweedServer):
    """A running S3 server."""

    def client(self, **config: Any) -> S3Client:
        """
        Return a client with the credentials of the server's only user.

        :param config: Options of :class:`botocore.config.Config`.
        """
        return self.store(**config).client


@contextmanager
def running_seaweed(
    directory: Path, buckets: Sequence[str] = ("stems",), *, port: int | None = None
) -> Iterator[BedSeaweedServer]:
    """
    Run the demo's SeaweedFS on loopback until the block ends.

    :param directory: Folder of its data and its key.
    :param port: Preferred port; by default any free one.
    """
    with seaweed.running_seaweed(directory, buckets, port=port) as server:
        yield BedSeaweedServer(**vars(server))
