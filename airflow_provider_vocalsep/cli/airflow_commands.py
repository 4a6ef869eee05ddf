"""The commands about a destination as ``airflow vocalsep …`` (Airflow 3.2 and later)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from airflow_provider_vocalsep.cli.main import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.cli.cli_config import Arg, GroupCommand

#: The commands about a destination. Airflow lists them for every command of its own, so their modules import
#: next to nothing.
NAMES = ("audit", "prune", "retry-plan", "show", "verify")


def airflow_commands() -> list[GroupCommand]:
    """Return the commands that Airflow's command line shows for this provider."""
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
                    func=_make_runner(name),
                    args=[_to_argparse(param) for param in command.params if isinstance(param, _SHOWN)],
                )
                for name, command in ((name, _import_command(name)) for name in NAMES)
            ],
        )
    ]


_SHOWN = (click.Argument, click.Option)


def _import_command(name: str) -> click.Command:
    module, attribute = COMMANDS[name].address.split(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def _to_argparse(param: click.Parameter) -> Arg:
    """Convert a parameter of click to one of argparse. Click validates the values."""
    from airflow.cli.cli_config import Arg

    options: dict[str, Any]
    if isinstance(param, click.Argument):
        options = {"metavar": param.make_metavar(click.Context(click.Command(""))), "help": ""}
        return Arg(flags=(param.name,), **options)  # type: ignore[no-untyped-call]
    assert isinstance(param, click.Option)  # noqa: S101 - nothing else is shown
    options = {"dest": param.name, "default": None, "help": (param.help or "").replace("%", "%%")}
    flags = tuple(param.opts)
    if param.is_flag:
        # Of a pair, the one that is not the default.
        flags, options["action"] = tuple(param.secondary_opts or param.opts), "store_true"
    elif param.multiple:
        options["action"] = "append"
    if isinstance(param.type, click.Choice):
        options["choices"] = tuple(param.type.choices)
    return Arg(flags=flags, **options)  # type: ignore[no-untyped-call]


def _make_runner(name: str) -> Callable[[Any], None]:
    def run(args: Any) -> None:
        from airflow_provider_vocalsep.storage.clients import quiet_logs

        quiet_logs()  # Airflow logs to standard output, where the command writes its output.
        command = _import_command(name)
        command.main(_to_command_line(command, args), prog_name=f"airflow vocalsep {name}")

    return run


def _to_command_line(command: click.Command, args: Any) -> list[str]:
    """Convert what argparse has parsed back to a command line, for click."""
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
