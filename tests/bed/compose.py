"""Reads compose files like Docker, limited to the parts of the format that ``docker-compose.yaml`` uses."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<operator>[?-])(?P<argument>[^}]*))?\})")


class ComposeError(ValueError):
    """A compose file has an error or uses an unsupported part of the format."""


@dataclass(frozen=True)
class ComposeService:
    """
    One service of a compose file.

    :param command: Program and arguments, starting with those of the entry point.
    :param healthcheck: Program and arguments of the health check.
    :param volumes: By path in the container: the name of a volume, or a relative path of the project.
    :param ports: Ports on which it listens.
    :param depends_on: Condition by service name.
    :param aliases: Further host names of the service.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    healthcheck: tuple[str, ...] | None
    volumes: dict[str, str]
    ports: tuple[int, ...]
    depends_on: dict[str, str]
    replicas: int
    aliases: tuple[str, ...]


def load_compose(paths: Sequence[Path], variables: Mapping[str, str]) -> dict[str, ComposeService]:
    """
    Read a compose file and its overrides, and return the services by name.

    :param paths: The files, the base first.
    :param variables: Contents of ``.env``.
    :raises ComposeError: a variable is missing, or a file uses an unsupported part of the format.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, yaml.safe_load(path.read_text()))
    return {
        name: _parse_service(name, _interpolate(fields, variables))
        for name, fields in merged["services"].items()
    }


def _merge(base: Any, over: Any, key: str = "") -> Any:
    """Merge like ``docker compose -f base -f over``: mappings by key, volumes appended, all else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: _merge(base[k], v, k) if k in base else v for k, v in over.items()}}
    if key == "volumes" and isinstance(base, list):
        return [*base, *over]
    return over


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_interpolate(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name, operator, argument = match["name"], match["operator"], match["argument"]
        if name is None:
            return "$"
        if variables.get(name):
            return variables[name]
        if operator == "-":
            return str(argument)
        raise ComposeError(f"{name} is not set: {argument or 'it has no default'}")

    return _VARIABLE.sub(substitute, value)


def _parse_service(name: str, fields: dict[str, Any]) -> ComposeService:
    networks = fields.get("networks") or {}
    entrypoint, command = _split_command(fields.get("entrypoint")), _split_command(fields.get("command"))
    return ComposeService(
        name=name,
        image=fields["image"],
        command=(*entrypoint, *command),
        environment={key: str(value) for key, value in fields.get("environment", {}).items()},
        healthcheck=_parse_healthcheck(name, fields.get("healthcheck")),
        volumes=dict(_parse_volume(name, text) for text in fields.get("volumes", ())),
        ports=tuple(dict.fromkeys(_list_ports(fields))),
        depends_on={other: when["condition"] for other, when in (fields.get("depends_on") or {}).items()},
        replicas=int(fields.get("deploy", {}).get("replicas", 1)),
        aliases=tuple(alias for network in networks.values() for alias in network.get("aliases", ())),
    )


def _split_command(value: Any) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value or ()]


def _parse_healthcheck(name: str, fields: dict[str, Any] | None) -> tuple[str, ...] | None:
    if fields is None:
        return None
    kind, *rest = fields["test"]
    if kind == "CMD":
        return tuple(map(str, rest))
    if kind == "CMD-SHELL":
        return ("/bin/sh", "-c", *rest)
    raise ComposeError(f"{name}: the health check must be CMD or CMD-SHELL, not {kind}.")


def _parse_volume(name: str, text: str) -> tuple[str, str]:
    source, _, rest = text.partition(":")
    target = rest.partition(":")[0]
    if not target.startswith("/"):
        raise ComposeError(f"{name}: write volumes as source:/path, not {text}.")
    return target, source


def _list_ports(fields: dict[str, Any]) -> list[int]:
    published = [str(port).rpartition(":")[2] for port in fields.get("ports", ())]
    return [int(port) for port in (*fields.get("expose", ()), *published)]
