"""A ledger store in memory whose writes can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_vocalsep.ledger import LedgerConflictError, LedgerError, MemoryLedgerStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.ledger import Identity, LedgerEntry


class FlakyLedgerStore(MemoryLedgerStore):
    """Refuses the next writes, loses the answers to them, or lets another writer go first."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_to_refuse = 0
        self.answers_to_lose = 0
        #: Called once, right before the next write.
        self.before_write: Callable[[], object] | None = None

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        if self.writes_to_refuse:
            self.writes_to_refuse -= 1
            raise LedgerError("the store is away")
        if self.before_write:
            before_write, self.before_write = self.before_write, None
            before_write()
        written = super().write(identity, entry, version)
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise LedgerConflictError("the write succeeded, and the retry of its request met it")
        return written
