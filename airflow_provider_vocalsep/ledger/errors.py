"""Errors of the ledger."""

from __future__ import annotations

from airflow_provider_vocalsep.api.errors import VocalSepError


class LedgerError(VocalSepError):
    """The ledger could not be read or written. Never means that there is no entry."""


class LedgerConflictError(LedgerError):
    """Another writer changed the entry first."""


class ClaimLostError(Exception):
    """Another attempt has taken over the claim: the attempt that lost it must not submit."""
