"""
Print as JSON what an installed Airflow knows about the provider. Runs in the environment under test.

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

DISTRIBUTION = "airflow-provider-vocalsep"


def read_form() -> dict:
    """Return the connection form of type ``vocalsep``, as the API server reads it."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    hooks = {hook.connection_type: hook for hook in HookMetaService.hook_meta_data()}
    return hooks["vocalsep"].model_dump(mode="json") if "vocalsep" in hooks else {}


def parse_dags(folder: Path) -> dict:
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
            "provider": manager.providers[DISTRIBUTION].data if DISTRIBUTION in manager.providers else None,
            "form": read_form(),
            "dags": parse_dags(Path(sys.argv[1])),
            "shipped_dags": parse_dags(package / "example_dags"),
            "package": str(package),
        },
        default=str,
    )
)
