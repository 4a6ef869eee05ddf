"""Where stems land, found from what Airflow itself knows. No address comes from a browser."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from sqlalchemy import JSON, or_, select, type_coerce

from airflow_provider_vocalsep.runs.listing import Destination, folder_of
from airflow_provider_vocalsep.storage.errors import DestinationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: How Airflow keeps a field that is ``None``.
_NOTHING = (None, "", "None", "null")

#: Seconds for the bucket to answer somebody who looks at a page.
_CONNECT, _READ = 4, 20


@dataclass(frozen=True)
class Source:
    """
    A place under which stems land.

    :param destination: The place.
    :param aws_conn_id: Connection of its object storage.
    :param ledgers: Where its ledger entries may be.
    :param names: DAG and run of the folders that Airflow remembers.
    """

    destination: Destination
    aws_conn_id: str | None
    ledgers: frozenset[Destination] = frozenset()
    names: dict[str, tuple[str, str]] = field(default_factory=dict, hash=False, compare=False)

    def client(self) -> S3Client:
        """Return a boto3 client that does not keep people waiting."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.config import Config

        quick = Config(
            connect_timeout=_CONNECT, read_timeout=_READ, retries={"max_attempts": 2}, max_pool_connections=24
        )
        theirs = S3Hook(aws_conn_id=self.aws_conn_id).conn_config.botocore_config
        client: S3Client = S3Hook(
            aws_conn_id=self.aws_conn_id, config=theirs.merge(quick) if theirs else quick
        ).get_conn()
        return client


def find_sources(session: Session) -> list[Source]:
    """
    Find the destinations.

    They are those of the task instances whose arguments Airflow remembers (thirty runs of each task, unless ``[core]
    num_dag_runs_to_retain_rendered_fields`` says otherwise), and those of ``[vocalsep] destinations``.

    :param session: A session of Airflow's database.
    """
    found: dict[Destination, dict[str, Any]] = {}
    for row in _remembered(session):
        conn_id = None if row.aws_conn_id in _NOTHING else str(row.aws_conn_id)
        if about := _noted(found, row.destination, conn_id):
            about["names"][folder_of(row.dag_id, row.run_id)] = (row.dag_id, row.run_id)
            if row.ledger not in _NOTHING:
                about["ledgers"].add(row.ledger)
    configured = conf.get("vocalsep", "destinations", fallback="") or ""
    for uri in filter(None, map(str.strip, configured.replace("\n", ",").split(","))):
        if _noted(found, uri, conf.get("vocalsep", "aws_conn_id", fallback="aws_default")) is None:
            log.warning("[vocalsep] destinations: %r is not an address in S3.", uri)
    return [_source(destination, about) for destination, about in found.items()]


def _remembered(session: Session) -> Any:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered

    def rendered(name: str) -> Any:
        return type_coerce(Rendered.rendered_fields, JSON)[name].as_string()

    # Arguments that ours have, and subclasses of ours, and hardly anything else.
    ours = or_(rendered("vocalsep_conn_id").is_not(None), rendered("only_new").is_not(None))
    destination = rendered("destination")
    return session.execute(
        select(
            Rendered.dag_id,
            Rendered.run_id,
            destination.label("destination"),
            rendered("ledger").label("ledger"),
            rendered("aws_conn_id").label("aws_conn_id"),
        )
        .where(destination.like("s3://%"), ours)
        .distinct()
    )


def _noted(
    found: dict[Destination, dict[str, Any]], uri: str, aws_conn_id: str | None
) -> dict[str, Any] | None:
    try:
        destination = Destination.parse(uri)
    except DestinationError:
        return None
    return found.setdefault(destination, {"aws_conn_id": aws_conn_id, "ledgers": set(), "names": {}})


def _source(destination: Destination, about: dict[str, Any]) -> Source:
    ledgers = set()
    for uri in [f"{destination.uri}/_vocalsep/ledger", *about["ledgers"]]:
        try:
            ledgers.add(Destination.parse(uri))
        except DestinationError:
            log.info("A task instance names the ledger %r, which is not an address in S3.", uri)
    return Source(destination, about["aws_conn_id"], frozenset(ledgers), about["names"])
