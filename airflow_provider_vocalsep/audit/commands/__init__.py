"""``vocalsep audit``, ``show``, ``verify``, ``retry-plan`` and ``prune``: a destination without a running Airflow."""

from __future__ import annotations
