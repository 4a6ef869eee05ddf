"""``vocalsep callback-check``."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.markup import escape

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.callbacks.check import BrokenRouteError, check_route


@click.command("callback-check")
@click.option(
    "--conn-id",
    default="vocalsep_default",
    show_default=True,
    help="The Airflow connection whose callback_base_url and callback_secret are checked.",
)
def callback_check(conn_id: str) -> None:
    """
    Check that the vendor's callbacks reach this Airflow.

    Posts a correctly signed test callback to the public address of the connection and prints which steps
    work: name, TLS, path, token, signature, database. Changes nothing. Run it where the connection is defined
    (a worker, the API server, or anywhere with AIRFLOW_CONN_... set), best from outside your network.
    """
    from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook

    console = Console(soft_wrap=True)
    try:
        for line in check_route(conn_id, VocalSeparationHook(conn_id).settings):
            console.print(f"[green]ok[/green]     {escape(line)}")
    except (BrokenRouteError, VocalSepError) as e:
        console.print(f"[red]broken[/red] {escape(str(e))}")
        sys.exit(1)
    except Exception as e:
        if type(e).__name__ != "AirflowNotFoundException":
            raise
        console.print(
            f"[red]broken[/red] There is no connection {escape(repr(conn_id))} here: {escape(str(e))}"
        )
        sys.exit(1)
    console.print("The vendor can call this Airflow back.")
