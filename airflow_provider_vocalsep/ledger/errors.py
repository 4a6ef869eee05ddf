"""What can go wrong with the ledger itself."""

from __future__ import annotations

from airflow_provider_vocalsep.api.errors import VocalSepError


class LedgerError(VocalSepError):
    """The ledger could not be read or written. Never the same as "there is no entry"."""


class LedgerConflictError(LedgerError):
    """Another writer changed the entry first."""
