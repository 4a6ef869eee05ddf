"""Object stores by whose credentials they use: an Airflow connection's, or those of a shell."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.client.settings import USER_AGENT
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.storage.translation import AT_A_SHELL, IN_AIRFLOW, ON_A_PAGE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Connections to the bucket that are kept: a batch's eight tracks read their ledger entries while eight stems and eight parts
#: move. botocore keeps ten, and warns of each one more.
_CONNECTIONS = 32

#: Threads of a command that read a bucket at the same time, at most.
MAX_SHELL_THREADS = 256

#: Settings of a client whose answer somebody waits for: seconds, and tries.
_IMPATIENT = {"connect_timeout": 4, "read_timeout": 20, "retries": {"max_attempts": 2}}


def store_from_connection(aws_conn_id: str | None, *, impatient: bool = False) -> ObjectStore:
    """
    Return the object store of an AWS connection.

    Built from the Amazon hook's session and not by its ``get_conn``, which walks the whole stack with its source lines to
    name its caller in the user agent: half of all that a task process computes.

    :param aws_conn_id: Id of the connection; ``None`` for the credentials of the machine.
    :param impatient: Give up soon, for somebody who looks at a page.
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
    )


def store_from_shell(*, endpoint_url: str | None = None, profile: str | None = None) -> ObjectStore:
    """
    Return an object store with boto3's own credentials: environment, profile, instance role.

    :param endpoint_url: Address of a store other than AWS.
    :param profile: Profile of the AWS configuration.
    :raises DestinationError: the profile does not exist, or the address is not one.
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
    Return a boto3 client of a local store, as the demo's is.

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
