"""
Say as JSON what an installed Airflow knows of us. Runs inside the environment under test, not in the test's.

Argument: a folder of DAG files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow before 3.2
    from airflow.models.dagbag import DagBag
from airflow.providers_manager import ProvidersManager

import airflow_provider_vocalsep

OURS = "airflow-provider-vocalsep"


def form() -> dict:
    """Return what the connection form of our type is made of, as the API server reads it."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    hooks = {hook.connection_type: hook for hook in HookMetaService.hook_meta_data()}
    return hooks["vocalsep"].model_dump(mode="json") if "vocalsep" in hooks else {}


def dags(folder: Path) -> dict:
    """Parse DAG files as Airflow does."""
    bag = DagBag(str(folder))
    return {
        "ids": sorted(bag.dags),
        "import_errors": bag.import_errors,
        "warnings": bag.captured_warnings,
    }


manager = ProvidersManager()
package = Path(airflow_provider_vocalsep.__file__).parent
print(
    json.dumps(
        {
            "provider": manager.providers[OURS].data if OURS in manager.providers else None,
            "form": form(),
            "dags": dags(Path(sys.argv[1])),
            "shipped_dags": dags(package / "example_dags"),
            "package": str(package),
        },
        default=str,
    )
)
