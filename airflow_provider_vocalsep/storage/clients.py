"""Object stores with the credentials of an Airflow connection or of a shell."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.client.settings import USER_AGENT
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.storage.translation import AT_A_SHELL, IN_AIRFLOW, ON_A_PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

#: Connections that are kept open: the eight tracks of a batch read their ledger entries while eight stems and
#: eight parts are sent. botocore's default is ten, with a warning for each further one.
_CONNECTIONS = 32

#: Largest number of threads in which a command reads a bucket.
MAX_SHELL_THREADS = 256

#: Seconds, and attempts, of a client that serves a page.
_IMPATIENT = {"connect_timeout": 4, "read_timeout": 20, "retries": {"max_attempts": 2}}


def store_from_connection(
    aws_conn_id: str | None, *, upload_args: Mapping[str, Any] | None = None, impatient: bool = False
) -> ObjectStore:
    """
    Return the object store of an AWS connection.

    It uses the Amazon hook's session and not its ``get_conn``, which reads the source lines of the whole call
    stack to name its caller in the user agent: half of the CPU time of a task process.

    :param aws_conn_id: Id of the connection; ``None`` for boto3's default credentials.
    :param upload_args: Further arguments of every upload.
    :param impatient: Use short timeouts, for a page.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    config = Config(user_agent_extra=USER_AGENT, max_pool_connections=_CONNECTIONS).merge(hook.config)
    if impatient:
        config = config.merge(Config(**_IMPATIENT))  # type: ignore[arg-type]
    return ObjectStore(
        hook.get_session(region_name=hook.region_name).client(
            "s3",
            endpoint_url=hook.conn_config.get_service_endpoint_url("s3"),
            config=config,
            verify=hook.verify,
        ),
        advice=ON_A_PAGE if impatient else IN_AIRFLOW,
        upload_args=upload_args,
    )


def store_from_shell(*, endpoint_url: str | None = None, profile: str | None = None) -> ObjectStore:
    """
    Return an object store with boto3's own credentials: environment, profile, instance role.

    :param endpoint_url: Address of a store other than AWS.
    :param profile: Profile of the AWS configuration.
    :raises DestinationError: the profile does not exist, or the address is malformed.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ProfileNotFound

    config = Config(
        max_pool_connections=MAX_SHELL_THREADS,
        user_agent_extra=USER_AGENT,
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=10,
    )
    try:
        client: S3Client = boto3.Session(profile_name=profile).client(
            "s3", endpoint_url=endpoint_url, config=config
        )
    except (ProfileNotFound, ValueError) as e:
        raise DestinationError(f"{e}. Check --profile and --endpoint-url.") from e
    return ObjectStore(client, advice=AT_A_SHELL)


def quiet_logs() -> None:
    """Keep botocore's informational log lines out of a command's output."""
    logging.getLogger("botocore").setLevel(logging.WARNING)


def client_with_keys(endpoint_url: str, access_key: str, secret_key: str, **config: Any) -> S3Client:
    """
    Return a boto3 client of a local store, such as the demo's.

    :param config: Options of botocore's ``Config``.
    """
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, **config),
    )
