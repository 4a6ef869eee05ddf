"""Putting a job together from an operator's arguments and its Airflow context."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.api.errors import TrackError, VocalSepError
from airflow_provider_vocalsep.client.settings import USER_AGENT
from airflow_provider_vocalsep.landing.guard import DownloadGuard
from airflow_provider_vocalsep.landing.land import Lander
from airflow_provider_vocalsep.ledger import (
    Ledger,
    LedgerStore,
    MemoryLedgerStore,
    S3LedgerStore,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.task_state_store import TaskStateLedgerStore
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit
from airflow_provider_vocalsep.storage.location import Location, StemLocation, parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.client.settings import AccountSettings

log = logging.getLogger(__name__)

#: Connections to the bucket that are kept: a batch's eight tracks read their ledger entries while eight stems and eight parts
#: move. botocore keeps ten, and warns of each one more.
_S3_CONNECTIONS = 32


def check_choices(if_landed: str, on_lost_submit: str) -> None:
    """
    Check the arguments that are one of a few words.

    :raises TrackError: naming the argument and the words.
    """
    if if_landed not in ("skip", "replace"):
        raise TrackError(f"if_landed is 'skip' or 'replace', not {if_landed!r}.")
    if on_lost_submit not in [policy.value for policy in OnLostSubmit]:
        raise TrackError(f"on_lost_submit is 'adopt', 'resubmit' or 'fail', not {on_lost_submit!r}.")


def raise_for_airflow(error: VocalSepError, *, track_key: object = None) -> NoReturn:
    """
    Let Airflow retry what may pass and fail at once what will not.

    :param error: The error.
    :param track_key: Key of the track that it is about; a message that does not name it yet is made to.
    :raises AirflowFailException: for an error that no retry mends, with the same message.
    """
    if track_key and repr(track_key) not in str(error):
        error.args = (f"Track {track_key!r}: {error}",)
    if not error.retryable:
        raise AirflowFailException(str(error)) from error
    raise error


def task_instance_ref(context: Context) -> TaskInstanceRef:
    """Say which task instance and try this is."""
    ti = context["ti"]
    return TaskInstanceRef(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
        # Airflow tells since 3.2, and nobody of a run that was not triggered by hand.
        user=getattr(context.get("dag_run"), "triggering_user_name", None),
    )


def s3_client_of(aws_conn_id: str | None) -> S3Client:
    """
    Return the boto3 client of an AWS connection.

    Built from the hook's session and not by its ``get_conn``, which walks the whole stack with its source lines to name its
    caller in the user agent: half of all that a task process computes.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    ours = Config(user_agent_extra=USER_AGENT, max_pool_connections=_S3_CONNECTIONS)
    return hook.get_session(region_name=hook.region_name).client(
        "s3",
        endpoint_url=hook.conn_config.get_service_endpoint_url("s3"),
        config=ours.merge(hook.config),
        verify=hook.verify,
    )


@dataclass(frozen=True)
class LandingParts:
    """What landing needs: the client, the place, and what carries the stems there."""

    s3_client: S3Client
    place: StemLocation
    lander: Lander


@dataclass(frozen=True)
class Parts:
    """
    What one run of an operator works with.

    :param context: Its Airflow context.
    :param track: The track.
    :param separation_type: What it is separated into.
    :param asked_by: The task instance and its try.
    :param ledger: The ledger.
    :param s3_client: The boto3 client, if anything of it lies in S3.
    :param landing: What landing needs; ``None`` without a destination.
    """

    context: Context
    track: Track
    separation_type: SeparationType
    asked_by: TaskInstanceRef
    ledger: Ledger
    s3_client: S3Client | None
    landing: LandingParts | None


def assemble(
    context: Context,
    *,
    track: Track,
    separation_type: SeparationType,
    stem_name: str | None,
    destination: str | None,
    ledger: str | None,
    aws_conn_id: str | None,
    upload_args: dict[str, Any] | None,
    settings: AccountSettings,
) -> Parts:
    """Put the parts together; see the arguments of the operators."""
    needs_s3 = destination or ledger or (track.audio_url or "").startswith("s3://")
    s3_client = s3_client_of(aws_conn_id) if needs_s3 else None
    landing = None
    if destination and s3_client:
        place = Location.parse(destination).stems(track.key, separation_type, stem_name)
        landing = LandingParts(s3_client, place, lander_of(settings, s3_client, upload_args))
    return Parts(
        context=context,
        track=track,
        separation_type=separation_type,
        asked_by=task_instance_ref(context),
        ledger=ledger_of(ledger, destination, s3_client=s3_client, context=context),
        s3_client=s3_client,
        landing=landing,
    )


def ledger_of(
    uri: str | None, destination: str | None, *, s3_client: S3Client | None, context: Context
) -> Ledger:
    """
    Open the ledger.

    :param uri: Where it is; by default under the destination.
    :param destination: Where stems land, if they do.
    :param s3_client: Client for it.
    :param context: Without either address the ledger is the task state store of this task instance, which
        survives its retries (Airflow 3.3 and later), or else lasts as long as this try.
    """
    if uri is None and destination is not None:
        uri = f"{destination.rstrip('/')}/_vocalsep/ledger"
    if uri is not None and s3_client is not None:
        bucket, prefix = parse_s3_uri(uri)
        return Ledger(S3LedgerStore(s3_client, bucket, prefix.strip("/")), on_event=metrics.count_event)
    task_state = context.get("task_state_store")
    store: LedgerStore
    if task_state is not None:
        store = TaskStateLedgerStore(task_state)
    else:
        log.warning(
            "There is neither a destination nor a ledger and this Airflow has no task state store: a retry of "
            "this task submits, and pays, again. Set ledger='s3://...' or retries=0."
        )
        store = MemoryLedgerStore()
    return Ledger(store, on_event=metrics.count_event)


def lander_of(
    settings: AccountSettings,
    s3_client: S3Client,
    upload_args: dict[str, Any] | None,
    *,
    max_parallel: int = 4,
) -> Lander:
    """Build what carries stems to the bucket, guarded as the connection says."""
    guard = DownloadGuard(
        allowed_hosts=settings.download_hosts, allow_private_hosts=settings.allow_private_hosts
    )
    return Lander(ObjectStore(s3_client), guard=guard, upload_args=upload_args, max_parallel=max_parallel)
