"""Reading a bucket from the command line: with plain AWS credentials, many objects at a time, errors in words."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
)

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.client.settings import USER_AGENT

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
R = TypeVar("R")

#: Objects that are read at the same time: small ones mostly wait for the network.
THREADS = 16

#: Threads that may be asked for.
MOST_THREADS = 256

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)

_CREDENTIALS = (
    "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or --profile, and for a store other than "
    "AWS --endpoint-url."
)


class BucketError(VocalSepError):
    """The bucket could not be read or written; the message says what to do."""


class AbsentError(BucketError):
    """There is no such object."""


@dataclass(frozen=True)
class Item:
    """
    An object as a listing shows it.

    :param key: Its key.
    :param bytes: Its size.
    :param modified: When it was written.
    """

    key: str
    bytes: int
    modified: datetime


def client_of(*, endpoint_url: str | None = None, profile: str | None = None) -> S3Client:
    """
    Return an S3 client with boto3's own credentials: environment, profile, instance role.

    :param endpoint_url: Address of a store other than AWS.
    :param profile: Profile of the AWS configuration.
    :raises BucketError: the profile or the address is none.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        max_pool_connections=MOST_THREADS,
        user_agent_extra=USER_AGENT,
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=10,
    )
    try:
        return boto3.Session(profile_name=profile).client("s3", endpoint_url=endpoint_url, config=config)
    except (ProfileNotFound, ValueError) as e:
        raise BucketError(f"{e}. Check --profile and --endpoint-url.") from e


@contextmanager
def in_words(bucket: str, key: str, verb: str) -> Iterator[None]:
    """
    Say in words what the bucket's errors mean.

    :param verb: What was to be done with the object, for the message.
    :raises AbsentError: there is no such object.
    :raises BucketError: anything else went wrong.
    """
    where = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as e:
        code = str(e.response.get("Error", {}).get("Code", "?"))
        if code == "NoSuchBucket":
            raise BucketError(f"There is no bucket {bucket!r}. {_CREDENTIALS}") from e
        if code in _ABSENT:
            raise AbsentError(f"{where} is not there.") from e
        if code in _REFUSED:
            raise BucketError(
                f"Could not {verb} {where}: the store refuses it ({code}). {_CREDENTIALS}"
            ) from e
        raise BucketError(f"Could not {verb} {where}: the store answered {code}.") from e
    except NoCredentialsError as e:
        raise BucketError(f"Could not {verb} {where}: there are no AWS credentials. {_CREDENTIALS}") from e
    except EndpointConnectionError as e:
        raise BucketError(f"Could not {verb} {where}: {e} Check --endpoint-url.") from e
    except BotoCoreError as e:
        raise BucketError(f"Could not {verb} {where}: {e}") from e


def list_items(client: S3Client, bucket: str, prefix: str) -> Iterator[Item]:
    """
    List objects, a thousand a request.

    :raises BucketError: they cannot be listed.
    """
    with in_words(bucket, prefix, "list"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield Item(item["Key"], item["Size"], item["LastModified"])


def read_object(client: S3Client, bucket: str, key: str) -> bytes:
    """
    Read a small object.

    :raises BucketError: it cannot be read.
    """
    with in_words(bucket, key, "read"):
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def in_parallel(
    step: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int = THREADS,
    stop: threading.Event | None = None,
) -> Iterator[R]:
    """
    Take a step for many items in threads, and give the results as they come.

    :param step: What to do.
    :param items: Taken as threads come free; a million of them is no more in memory than a few.
    :param threads: How many at a time.
    :param stop: Set when the caller gives up, so that long steps can end early.
    """
    pool = ThreadPoolExecutor(threads)
    todo = iter(items)
    try:
        pending = {pool.submit(step, item) for item in islice(todo, 2 * threads)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(step, item) for item in islice(todo, len(done))}
            for future in done:
                yield future.result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
