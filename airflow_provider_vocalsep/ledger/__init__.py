"""
Durable state of every paid separation: one entry per track and separation, changed by compare-and-swap.

An attempt is in the ledger before its submit is sent, so a crash leaves a trace and never a second charge.
"""

from __future__ import annotations

from airflow_provider_vocalsep.ledger.claims import (
    Attach,
    Decision,
    InDoubt,
    Intent,
    Landed,
    Submit,
    is_unpaid,
)
from airflow_provider_vocalsep.ledger.entry import (
    EntryState,
    Event,
    File,
    Identity,
    Landing,
    LedgerEntry,
    Outcome,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.errors import ClaimLostError, LedgerConflictError, LedgerError
from airflow_provider_vocalsep.ledger.ledger import Ledger
from airflow_provider_vocalsep.ledger.store import LedgerStore, MemoryLedgerStore, S3LedgerStore

__all__ = [
    "Attach",
    "ClaimLostError",
    "Decision",
    "EntryState",
    "Event",
    "File",
    "Identity",
    "InDoubt",
    "Intent",
    "Landed",
    "Landing",
    "Ledger",
    "LedgerConflictError",
    "LedgerEntry",
    "LedgerError",
    "LedgerStore",
    "MemoryLedgerStore",
    "Outcome",
    "S3LedgerStore",
    "Submit",
    "TaskInstanceRef",
    "is_unpaid",
]
