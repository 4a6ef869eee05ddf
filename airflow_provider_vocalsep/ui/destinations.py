"""The destinations that the page shows, from Airflow's database and configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from sqlalchemy import JSON, or_, select, type_coerce

from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.location import Location, run_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

#: How Airflow stores a field that is ``None``.
_NONE = (None, "", "None", "null")


@dataclass
class Destination:
    """
    A folder in which stems land.

    :param location: The folder.
    :param aws_conn_id: Connection of its object storage.
    :param ledgers: Where its ledger entries may be.
    :param names: DAG and run ids of run folders that Airflow remembers.
    """

    location: Location
    aws_conn_id: str | None
    ledgers: set[Location] = field(default_factory=set)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Its address."""
        return self.location.uri

    def open_store(self) -> ObjectStore:
        """Open its object store, with short timeouts: a user waits for the page."""
        from airflow_provider_vocalsep.storage.clients import store_from_connection

        return store_from_connection(self.aws_conn_id, impatient=True)


def find_destinations(session: Session) -> list[Destination]:
    """
    Find the destinations.

    They are those of the task instances whose arguments Airflow remembers (thirty runs of each task, unless
    ``[core] num_dag_runs_to_retain_rendered_fields`` says otherwise), and those of ``[vocalsep]
    destinations``.

    :param session: A session of Airflow's database.
    """
    found: dict[Location, Destination] = {}
    for row in _select_remembered(session):
        conn_id = None if row.aws_conn_id in _NONE else str(row.aws_conn_id)
        if destination := _add(found, row.destination, conn_id):
            destination.names[run_key(row.dag_id, row.run_id)] = (row.dag_id, row.run_id)
            if row.ledger not in _NONE:
                _add_ledger(destination, row.ledger)
    configured = conf.get("vocalsep", "destinations", fallback="") or ""
    for uri in filter(None, map(str.strip, configured.replace("\n", ",").split(","))):
        if _add(found, uri, conf.get("vocalsep", "aws_conn_id", fallback="aws_default")) is None:
            log.warning("[vocalsep] destinations: %r is not an address in S3.", uri)
    return list(found.values())


def _select_remembered(session: Session) -> Any:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered

    def rendered(name: str) -> Any:
        return type_coerce(Rendered.rendered_fields, JSON)[name].as_string()

    # Arguments that our operators and their subclasses have, and hardly any others.
    is_ours = or_(rendered("vocalsep_conn_id").is_not(None), rendered("only_new").is_not(None))
    destination = rendered("destination")
    return session.execute(
        select(
            Rendered.dag_id,
            Rendered.run_id,
            destination.label("destination"),
            rendered("ledger").label("ledger"),
            rendered("aws_conn_id").label("aws_conn_id"),
        )
        .where(destination.like("s3://%"), is_ours)
        .distinct()
    )


def _add(found: dict[Location, Destination], uri: str, aws_conn_id: str | None) -> Destination | None:
    try:
        location = Location.parse(uri)
    except DestinationError:
        return None
    return found.setdefault(location, Destination(location, aws_conn_id, {location.ledger}))


def _add_ledger(destination: Destination, uri: str) -> None:
    try:
        destination.ledgers.add(Location.parse(uri))
    except DestinationError:
        log.info("A task instance names the ledger %r, which is not an address in S3.", uri)
