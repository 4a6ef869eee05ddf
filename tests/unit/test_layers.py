"""Imports point down the package's layers, only storage/ knows S3, and modules stay small and formatted."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

NAME = "airflow_provider_vocalsep"
ROOT = Path(__file__).parents[2]

#: Lowest first. A module may import packages of its own layer and of those below.
LAYERS = (
    {NAME},
    {"api"},
    {"client"},
    {"storage"},
    {"ledger", "landing", "catalogue"},
    {"runs"},
    {"separation"},
    {"audit"},
    {"observability"},
    {"hooks"},
    {"triggers"},
    {"callbacks"},
    {"ui"},
    {"links"},
    {"operators"},
    {"sensors", "transfers"},
    {"retries", "plugin", "get_provider_info"},
    {"sandbox"},
    {"demo"},
    {"cli"},
)

#: Packages that may import only these others.
ONLY = {
    "api": set(),
    "sandbox": {"api"},
    "demo": {NAME, "api", "landing", "sandbox", "storage"},
}

#: Allowed imports that point up: ``python -m airflow_provider_vocalsep.sandbox`` runs ``vocalsep sandbox``.
ALLOWED = {("sandbox.__main__", "cli.sandbox")}

MAX_LINES = 350

# Known violations, to be emptied and deleted. A test also fails for an entry that is no longer a violation.

#: Imports that point up.
TODO_UPWARD = {
    ("observability.lineage", "operators.batch_parts"),
}

#: Modules outside storage/ that mention boto3 or botocore.
TODO_BOTO = {
    *("audit.bucket", "audit.entries", "audit.prune", "audit.verify", "cli.airflow_commands"),
    *(
        "landing.land",
        "landing.stem_lander",
        "landing.storage",
        "landing.upload",
        "ledger.store",
        "links.stems",
    ),
    *("operators._runtime", "operators.batch_parts", "operators.catalogue", "operators.vocal_separation"),
    *("operators.vocal_separation_batch", "runs.listing", "runs.report_file", "separation.own_file"),
    *("separation.track_job", "ui.audio", "ui.destinations", "ui.documents", "ui.refresh", "ui.run_index"),
}

#: Modules other than storage.location that mention ``_vocalsep``.
TODO_PATHS = {
    *("audit.entries", "audit.verify", "operators._runtime", "operators.catalogue"),
    *("operators.vocal_separation", "operators.vocal_separation_batch", "runs.listing", "runs.report_file"),
    "ui.destinations",
}

#: Modules of more than 350 lines.
TODO_LONG = {
    *("landing.download", "landing.stem_lander", "ledger.transitions", "operators.vocal_separation"),
    *("operators.vocal_separation_batch", "storage.store"),
}

#: Modules that switch the formatter off.
TODO_UNFORMATTED = {
    *("api.answers", "audit.retry_plan", "audit.tracks", "cli.sandbox", "ledger.transitions"),
    *("operators.catalogue", "operators.vocal_separation", "sensors.vocal_separation", "ui.airflow_runs"),
    "ui.index",
}


@dataclass(frozen=True)
class Import:
    """
    One import of a module of the package.

    :param at_runtime: Whether it stands outside ``if TYPE_CHECKING:``.
    """

    importer: str
    imported: str
    at_runtime: bool


@cache
def read_modules() -> dict[str, str]:
    """Return the source of each module by its name below the package."""
    found = {}
    for path in sorted((ROOT / NAME).rglob("*.py")):
        parts = path.relative_to(ROOT / NAME).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name or NAME] = path.read_text()
    return found


@cache
def find_imports() -> tuple[Import, ...]:
    """Return all imports between the package's modules, those inside functions included."""
    return tuple(
        Import(importer, target, runtime)
        for importer, source in read_modules().items()
        for target, runtime in _imports_of(ast.parse(source), runtime=True)
        if target != importer
    )


def _imports_of(node: ast.AST, *, runtime: bool) -> set[tuple[str, bool]]:
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                found |= _imports_of(ast.Module([statement], []), runtime=False)
            for statement in child.orelse:
                found |= _imports_of(ast.Module([statement], []), runtime=runtime)
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            found |= {(target, runtime) for target in _targets(child)}
        else:
            found |= _imports_of(child, runtime=runtime)
    return found


def _targets(statement: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the modules of the package that a statement imports, by their names below it."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    else:
        assert not statement.level, "relative imports are not used"
        submodules = [f"{statement.module}.{alias.name}" for alias in statement.names]
        names = [name if _below(name) in read_modules() else statement.module or "" for name in submodules]
    return {_below(name) for name in names if name == NAME or name.startswith(f"{NAME}.")}


def _below(name: str) -> str:
    return name.removeprefix(f"{NAME}.")


def package_of(module: str) -> str:
    return module.partition(".")[0]


def layer_of(module: str) -> int:
    (layer,) = [number for number, layer in enumerate(LAYERS) if package_of(module) in layer]
    return layer


def find_cycle(edges: set[tuple[str, str]]) -> list[str]:
    """Return the names along a cycle of a graph, none if it has no cycle."""
    targets: dict[str, set[str]] = {}
    for source, target in edges:
        targets.setdefault(source, set()).add(target)
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in finished:
            for target in sorted(targets.get(name, ())):
                if cycle := visit(target, [*path, name]):
                    return cycle
            finished.add(name)
        return []

    return next((cycle for name in sorted(targets) if (cycle := visit(name, []))), [])


def modules_matching(pattern: str) -> set[str]:
    return {name for name, source in read_modules().items() if re.search(pattern, source)}


class TestImports:
    def test_every_package_and_top_level_module_has_one_layer(self):
        declared = [name for layer in LAYERS for name in layer]

        assert len(declared) == len(set(declared))
        assert set(declared) == {package_of(name) for name in read_modules()}

    def test_no_import_points_up(self):
        upward = {
            (found.importer, found.imported)
            for found in find_imports()
            if layer_of(found.imported) > layer_of(found.importer)
        }

        assert upward - ALLOWED == TODO_UPWARD
        assert upward >= ALLOWED

    @pytest.mark.parametrize("package", ONLY)
    def test_package_imports_only_its_declared_packages(self, package):
        imported = {
            package_of(found.imported)
            for found in find_imports()
            if package_of(found.importer) == package and (found.importer, found.imported) not in ALLOWED
        }

        assert imported - {package} <= ONLY[package]

    def test_modules_form_no_cycle_at_runtime(self):
        edges = {(found.importer, found.imported) for found in find_imports() if found.at_runtime}

        assert find_cycle(edges) == []

    def test_packages_form_no_cycle_at_runtime(self):
        edges = {
            (package_of(found.importer), package_of(found.imported))
            for found in find_imports()
            if found.at_runtime and (found.importer, found.imported) not in ALLOWED
        }

        assert find_cycle({(source, target) for source, target in edges if source != target}) == []

    def test_cycle_and_type_only_import_are_detected(self):
        source = f"from {NAME}.api import errors\nif TYPE_CHECKING:\n    import {NAME}.client.pace\n"

        assert _imports_of(ast.parse(source), runtime=True) == {("api.errors", True), ("client.pace", False)}
        assert find_cycle({("a", "b"), ("b", "c"), ("c", "b")}) == ["b", "c", "b"]


class TestSources:
    def test_only_storage_mentions_boto3(self):
        found = {name for name in modules_matching("boto3|botocore") if package_of(name) != "storage"}

        assert found == TODO_BOTO

    def test_only_storage_location_mentions_the_internal_folder(self):
        found = modules_matching(r"(?<!provider)_vocalsep\b")

        assert found - {"storage.location"} == TODO_PATHS
        assert "storage.location" in found

    def test_no_module_exceeds_350_lines(self):
        long = {name for name, source in read_modules().items() if len(source.splitlines()) > MAX_LINES}

        assert long == TODO_LONG

    def test_no_module_skips_the_formatter(self):
        assert modules_matching("fmt: (skip|off)") == TODO_UNFORMATTED
