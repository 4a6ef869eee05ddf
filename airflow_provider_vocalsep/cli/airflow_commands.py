"""The commands about a destination as ``airflow vocalsep …`` (Airflow 3.2 and later)."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from airflow_provider_vocalsep.cli.main import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.cli.cli_config import Arg, GroupCommand

#: Those about a destination. Airflow asks for them whenever any command of its is called, so their modules import next to nothing.
NAMES = ("audit", "prune", "retry-plan", "show", "verify")


def airflow_commands() -> list[GroupCommand]:
    """Return what Airflow's command line shows of this provider."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    return [
        GroupCommand(
            name="vocalsep",
            help="Vocal separation: audit, verify and prune what has landed",
            subcommands=[
                ActionCommand(
                    name=name,
                    help=COMMANDS[name].help,
                    description=(command.help or "").replace("\b\n", ""),
                    func=_runner(name),
                    args=[_argument(param) for param in command.params if isinstance(param, _SHOWN)],
                )
                for name, command in ((name, _command(name)) for name in NAMES)
            ],
        )
    ]


_SHOWN = (click.Argument, click.Option)


def _command(name: str) -> click.Command:
    module, attribute = COMMANDS[name].address.split(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def _argument(param: click.Parameter) -> Arg:
    """Say in argparse's words what click knows of a parameter. Click checks the values."""
    from airflow.cli.cli_config import Arg

    told: dict[str, Any]
    if isinstance(param, click.Argument):
        told = {"metavar": param.make_metavar(click.Context(click.Command(""))), "help": ""}
        return Arg(flags=(param.name,), **told)  # type: ignore[no-untyped-call]
    assert isinstance(param, click.Option)  # noqa: S101 - nothing else is shown
    told = {
        "dest": param.name,
        "default": None,
        "help": (param.help or "").replace("%", "%%"),
    }
    flags = tuple(param.opts)
    if param.is_flag:
        # Of a pair, the one that is not the default.
        flags, told["action"] = tuple(param.secondary_opts or param.opts), "store_true"
    elif param.multiple:
        told["action"] = "append"
    if isinstance(param.type, click.Choice):
        told["choices"] = tuple(param.type.choices)
    return Arg(flags=flags, **told)  # type: ignore[no-untyped-call]


def _runner(name: str) -> Callable[[Any], None]:
    def run(args: Any) -> None:
        # Airflow logs to standard output, where the answer goes.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        command = _command(name)
        command.main(_words(command, args), prog_name=f"airflow vocalsep {name}")

    return run


def _words(command: click.Command, args: Any) -> list[str]:
    """Write what argparse has read as the command line that click reads."""
    options: list[str] = []
    arguments: list[str] = []
    for param in command.params:
        value = getattr(args, param.name or "", None)
        if value is None or value is False:
            continue
        if isinstance(param, click.Argument):
            arguments.append(str(value))
        elif value is True:
            options.append((param.secondary_opts or param.opts)[0])
        else:
            for one in value if isinstance(value, list) else [value]:
                options += [param.opts[-1], str(one)]
    return [*options, "--", *arguments]
