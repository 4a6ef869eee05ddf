"""Reading what happened out of the bucket: run reports, ledger entries, manifests. Knows no Airflow."""

from __future__ import annotations
