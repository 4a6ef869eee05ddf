"""A ledger in Airflow's task state store, for tasks without a destination."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.ledger import Identity, LedgerEntry

if TYPE_CHECKING:
    from airflow.sdk.execution_time.context import TaskStateStoreAccessor


class TaskStateLedgerStore:
    """
    Entries in the task state store (Airflow 3.3, AIP-103). One task instance and its retries see them.

    Only one try of a task instance runs at a time, so it needs no compare-and-swap.

    :param accessor: ``context["task_state_store"]``.
    """

    def __init__(self, accessor: TaskStateStoreAccessor) -> None:
        self._accessor = accessor

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """Return the entry."""
        value: Any = self._accessor.get(self._key(identity))
        if value is None:
            return None, None
        return LedgerEntry.model_validate(value), "current"

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """Replace the entry."""
        self._accessor.set(self._key(identity), json.loads(entry.to_json()))
        return None

    def uri_of(self, identity: Identity) -> str:
        """Return the address of the entry, for messages."""
        return f"task state store, key {self._key(identity)}"

    @staticmethod
    def _key(identity: Identity) -> str:
        return f"vocalsep-{identity.digest[:16]}"
