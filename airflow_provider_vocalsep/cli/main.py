"""The ``vocalsep`` command."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from airflow_provider_vocalsep import __version__


class LazyCommand(NamedTuple):
    """
    A command that is imported when it runs.

    :param address: ``module:attribute`` of the click command.
    :param extra: Extra of the distribution that it needs.
    :param help: Its line in the list of commands.
    """

    address: str
    extra: str
    help: str


#: Imported late, so that the command line starts quickly and works without the extras.
COMMANDS = {
    "audit": LazyCommand(
        "airflow_provider_vocalsep.cli.audit:audit",
        "dev",
        "What happened to every track: states, runs, credits.",
    ),
    "callback-check": LazyCommand(
        "airflow_provider_vocalsep.cli.callback_check:callback_check",
        "dev",
        "Check that the vendor's callbacks reach this Airflow.",
    ),
    "demo": LazyCommand(
        "airflow_provider_vocalsep.cli.demo:demo",
        "demo",
        "Separate a catalogue end to end on this machine: sandbox, S3 server and Airflow.",
    ),
    "prune": LazyCommand(
        "airflow_provider_vocalsep.cli.prune:prune",
        "dev",
        "Delete plans and reports of old runs, never what the ledger needs.",
    ),
    "retry-plan": LazyCommand(
        "airflow_provider_vocalsep.cli.retry_plan:retry_plan",
        "dev",
        "Write a catalogue of the tracks that failed or were left.",
    ),
    "sandbox": LazyCommand(
        "airflow_provider_vocalsep.cli.sandbox:sandbox",
        "sandbox",
        "Run a local vendor that really separates: no key, no cost.",
    ),
    "show": LazyCommand(
        "airflow_provider_vocalsep.cli.show:show",
        "dev",
        "Everything about one track: history, money, stems.",
    ),
    "verify": LazyCommand(
        "airflow_provider_vocalsep.cli.verify:verify",
        "dev",
        "Read landed stems again and compare them with their manifests.",
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; if its extra is missing, return one that names the extra."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        if ctx.resilient_parsing:
            return None
        module, attribute = lazy.address.split(":")
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as e:
            return _make_explanation(cmd_name, lazy, e)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; if a module is missing, name the extra to install."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as e:
            name = ctx.invoked_subcommand
            if name not in COMMANDS or (e.name or "").startswith("airflow_provider_vocalsep"):
                raise
            raise _missing_extra_error(name, COMMANDS[name], e) from e

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in sorted(COMMANDS)])


def _make_explanation(name: str, lazy: LazyCommand, error: ModuleNotFoundError) -> click.Command:
    @click.command(name, context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def explain(arguments: tuple[str, ...]) -> None:
        raise _missing_extra_error(name, lazy, error)

    return explain


def _missing_extra_error(name: str, lazy: LazyCommand, error: ModuleNotFoundError) -> click.ClickException:
    return click.ClickException(
        f"'vocalsep {name}' needs more packages ({error}). Install its extra: "
        f"pip install 'airflow-provider-vocalsep[{lazy.extra}]'"
    )


#: ``\b`` keeps click from wrapping the lines.
EXAMPLES = """
\b
Examples:
  vocalsep demo                  see a whole run: real stems in a real bucket
  vocalsep sandbox --port 9000   a vendor to develop and test DAGs against
  vocalsep callback-check        do the vendor's callbacks reach this Airflow?
  vocalsep audit s3://stems      what happened to every track, and what it cost
  vocalsep verify s3://stems     are they still the bytes that landed?
"""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
@click.version_option(__version__, "-V", "--version", prog_name="vocalsep")
def main() -> None:
    """Separate music catalogues into stems with Apache Airflow."""


if __name__ == "__main__":
    main()
