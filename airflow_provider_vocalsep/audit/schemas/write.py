"""Writing the JSON Schemas of the models."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.landing import manifest
from airflow_provider_vocalsep.ledger import entry
from airflow_provider_vocalsep.runs.report import ReportHead, TrackRow

if TYPE_CHECKING:
    from pydantic import BaseModel

MODELS: dict[str, type[BaseModel]] = {
    "ledger-entry-1": entry.LedgerEntry,
    "manifest-1": manifest.Manifest,
    "run-report-head-1": ReportHead,
    "run-report-row-1": TrackRow,
    "plan-track-1": Track,
}

_PARAM = re.compile(r":param (\w+): (.*?)(?=\n:|\Z)", re.DOTALL)
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([\w()]+)`")


def schema_of(name: str) -> dict[str, Any]:
    """Build the schema of a model, with the descriptions of its docstring."""
    model = MODELS[name]
    schema = model.model_json_schema()
    _describe(schema, model)
    for part, described in schema.get("$defs", {}).items():
        nested = getattr(entry, part, None) or getattr(manifest, part, None)
        if nested is not None:
            _describe(described, nested)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:airflow-provider-vocalsep:{name}",
        **schema,
    }


def _describe(schema: dict[str, Any], model: type) -> None:
    docstring = inspect.getdoc(model) or ""
    schema["description"] = docstring.split("\n", 1)[0]
    for name, description in _PARAM.findall(docstring):
        if name in schema.get("properties", {}):
            text = _ROLE.sub(r"\1", " ".join(description.split())).replace("``", "")
            schema["properties"][name]["description"] = text
    for described in schema.get("properties", {}).values():
        described.pop("title", None)


def text_of(name: str) -> str:
    """Return a schema as JSON text."""
    return json.dumps(schema_of(name), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all schemas into the folder of this module."""
    for name in MODELS:
        (Path(__file__).parent / f"{name}.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
