"""Writing the JSON Schemas from the models."""

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
    """Build a schema: of the model's fields, explained as its docstring explains them."""
    model = MODELS[name]
    schema = model.model_json_schema()
    _explain(schema, model)
    for part, described in schema.get("$defs", {}).items():
        found = getattr(entry, part, None) or getattr(manifest, part, None)
        if found is not None:
            _explain(described, found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:airflow-provider-vocalsep:{name}",
        **schema,
    }


def _explain(schema: dict[str, Any], model: type) -> None:
    words = inspect.getdoc(model) or ""
    schema["description"] = words.split("\n", 1)[0]
    for name, said in _PARAM.findall(words):
        if name in schema.get("properties", {}):
            text = _ROLE.sub(r"\1", " ".join(said.split())).replace("``", "")
            schema["properties"][name]["description"] = text
    for described in schema.get("properties", {}).values():
        described.pop("title", None)


def text_of(name: str) -> str:
    """Return the file of a schema."""
    return json.dumps(schema_of(name), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all of them beside this module."""
    for name in MODELS:
        (Path(__file__).parent / f"{name}.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
