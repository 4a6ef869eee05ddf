"""Questions about ledger, run reports and manifests in the bucket. Does not import Airflow."""

from __future__ import annotations
