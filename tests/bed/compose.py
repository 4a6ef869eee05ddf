"""Reading ``docker-compose.yaml``: as much of it as ours uses, merged and interpolated as Docker does."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<how>[?-])(?P<rest>[^}]*))?\})")


class ComposeError(ValueError):
    """A compose file cannot be used as it is."""


@dataclass(frozen=True)
class ComposeService:
    """
    One service of a compose file.

    :param name: Its name, under which others reach it.
    :param image: The image it runs.
    :param command: Program and arguments, the entry point's first.
    :param environment: Its variables.
    :param healthcheck: Program and arguments of its health check, if it has one.
    :param volumes: What it sees at which path: a path of the project, relative, or the name of a volume.
    :param ports: Ports it listens on.
    :param depends_on: Condition by service.
    :param replicas: How many of it run.
    :param aliases: Other names under which it is reached.
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
    Read a compose file and those that override it.

    :param paths: The files, the base first.
    :param variables: What stands in ``.env``.
    :return: The services by name.
    :raises ComposeError: a variable is missing, or something is used that this reader does not know.
    """
    whole: dict[str, Any] = {}
    for path in paths:
        whole = _merge(whole, yaml.safe_load(path.read_text()))
    return {
        name: _service(name, _interpolate(service, variables)) for name, service in whole["services"].items()
    }


def _merge(base: Any, over: Any, key: str = "") -> Any:
    """Merge as ``docker compose -f base -f over`` does: mappings by key, volumes one after the other."""
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

    def replaced(match: re.Match[str]) -> str:
        name, how, rest = match["name"], match["how"], match["rest"]
        if name is None:
            return "$"
        if variables.get(name):
            return variables[name]
        if how == "-":
            return str(rest)
        raise ComposeError(f"{name} is not set: {rest or 'it has no default'}")

    return _VARIABLE.sub(replaced, value)


def _service(name: str, fields: dict[str, Any]) -> ComposeService:
    networks = fields.get("networks") or {}
    entrypoint, command = _words(fields.get("entrypoint")), _words(fields.get("command"))
    return ComposeService(
        name=name,
        image=fields["image"],
        command=(*entrypoint, *command),
        environment={key: str(value) for key, value in fields.get("environment", {}).items()},
        healthcheck=_healthcheck(name, fields.get("healthcheck")),
        volumes=dict(_volume(name, text) for text in fields.get("volumes", ())),
        ports=tuple(dict.fromkeys(_ports(fields))),
        depends_on={other: how["condition"] for other, how in (fields.get("depends_on") or {}).items()},
        replicas=int(fields.get("deploy", {}).get("replicas", 1)),
        aliases=tuple(alias for network in networks.values() for alias in network.get("aliases", ())),
    )


def _words(value: Any) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value or ()]


def _healthcheck(name: str, fields: dict[str, Any] | None) -> tuple[str, ...] | None:
    if fields is None:
        return None
    kind, *rest = fields["test"]
    if kind == "CMD":
        return tuple(map(str, rest))
    if kind == "CMD-SHELL":
        return ("/bin/sh", "-c", *rest)
    raise ComposeError(f"{name}: the health check is to be CMD or CMD-SHELL, not {kind}.")


def _volume(name: str, text: str) -> tuple[str, str]:
    source, _, rest = text.partition(":")
    target = rest.partition(":")[0]
    if not target.startswith("/"):
        raise ComposeError(f"{name}: write volumes as source:/path, not {text}.")
    return target, source


def _ports(fields: dict[str, Any]) -> list[int]:
    published = [str(port).rpartition(":")[2] for port in fields.get("ports", ())]
    return [int(port) for port in (*fields.get("expose", ()), *published)]
