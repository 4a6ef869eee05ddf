"""
JSON Schemas of the files in the bucket, one for each version, for readers without this package.

``python -m airflow_provider_vocalsep.audit.schemas.write`` writes them from the models; a test fails when
they are stale.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

#: Names of the schemas; the number is the files' ``schema_version``.
NAMES = ("ledger-entry-1", "manifest-1", "run-report-head-1", "run-report-row-1", "plan-track-1")


def load_schema(name: str) -> dict[str, Any]:
    """
    Return a schema.

    :param name: One of :data:`NAMES`.
    :raises FileNotFoundError: there is no such schema.
    """
    text = resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
