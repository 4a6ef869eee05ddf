"""``vocalsep sandbox``."""

from __future__ import annotations

import logging
import sqlite3
import sys
from pathlib import Path
from typing import Any

import click

from airflow_provider_vocalsep.sandbox.options import SandboxOptions, default_cache_dir


@click.command(context_settings={"show_default": True})
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on. Any but loopback lets others submit."
)
@click.option("--port", default=9000, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option(
    "--port-file", type=click.Path(path_type=Path), help="Write the port into this file once it listens."
)
@click.option(
    "--dialect",
    default="sunoapi",
    type=click.Choice(["sunoapi", "kie"]),
    help="The vendor whose API to serve.",
)
@click.option("--api-key", help="The API key to accept. Default: a new random key, printed at the start.")
@click.option(
    "--credits",
    "credits_",
    default=10_000.0,
    help="Balance of a new account; a separation costs 10, 50 or 20.",
)
@click.option("--submit-rate", default="20/10s", help="Submits accepted in a window; more are refused.")
@click.option(
    "--task-seconds", default=2.0, help="Minimum seconds that a task is pending. Real vendors: 60-180."
)
@click.option(
    "--finish-rate",
    default=0.0,
    type=click.FloatRange(0),
    help="Maximum tasks that end per second; 0 for no limit.",
)
@click.option("--visible-after", default=0.0, help="Seconds after a submit until its record is visible.")
@click.option(
    "--link-expiry", default=0.0, help="Seconds that a stem's link works after its task ends; 0 for ever."
)
@click.option("--public-url", help="Address under which others reach the sandbox, used in links to stems.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Folder of the account's records. Default: in memory only.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default=default_cache_dir,
    show_default="~/.cache/vocalsep-sandbox",
    help="Folder of separated songs: the same file is separated once.",
)
@click.option(
    "--engine",
    default="auto",
    type=click.Choice(["auto", "spleeter", "dsp"]),
    help="Spleeter's network, or plain signal processing. auto: the network if its weights are installed.",
)
@click.option(
    "--tiny-stems", is_flag=True, help="Return a third of a second of audio for any ids, for load tests."
)
@click.option("--webhook-hmac-key", help="Sign callbacks with this key, as kie does.")
@click.option("--callback-timeout", default=15.0, help="Seconds to wait for the answer to a callback.")
@click.option("--callback-retries", default=3, help="Tries of a callback after the first.")
@click.option(
    "--callback-backoff", default=1.0, help="Seconds before the first retry of a callback, then doubling."
)
@click.option(
    "--allow-urllib",
    is_flag=True,
    help="Serve stems to Python's default user agent, which the real CDN refuses.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="JSON",
    help='A fault from the start, e.g. \'{"place": "read", "kind": "html", "times": 3}\'. More at run time: '
    "POST /sandbox/faults.",
)
def sandbox(port_file: Path | None, credits_: float, api_key: str | None, **settings: Any) -> None:
    """
    Serve the vendor's API on this machine, with real separation.

    It separates its own songs (GET /sandbox/catalogue) or any audioUrl, keeps the account's totals (GET
    /sandbox/books), and fails on demand (POST /sandbox/faults). It costs nothing.
    """
    if api_key is not None:
        settings["api_key"] = api_key
    options = SandboxOptions(credits=credits_, **settings)
    try:
        _ = options.rate
    except ValueError as e:
        raise click.BadParameter(str(e), param_hint="--submit-rate") from e
    try:
        import airflow_provider_vocalsep.sandbox.app  # noqa: F401 - its packages may be missing
        from airflow_provider_vocalsep.sandbox.engine.spleeter import WeightsMissingError
        from airflow_provider_vocalsep.sandbox.server import build_server, listen, url_of
    except ImportError as e:
        raise click.ClickException(
            f"The sandbox needs more packages ({e.name}): pip install 'airflow-provider-vocalsep[sandbox]'"
        ) from e
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("airflow_provider_vocalsep.sandbox").setLevel(logging.INFO)

    try:
        listener = listen(options)
    except OSError as e:
        raise click.ClickException(
            f"Cannot listen on {options.host}:{options.port} ({e.strerror}); "
            "choose another --port, 0 for a free one."
        ) from e
    with listener:
        url = url_of(listener)
        try:
            server = build_server(options, url)
        except (ValueError, WeightsMissingError) as e:  # an invalid fault, or an engine without its weights
            raise click.ClickException(str(e)) from e
        except (OSError, sqlite3.Error) as e:
            raise click.ClickException(f"Cannot write to --state-dir {options.state_dir}: {e}") from e
        click.echo(f"The sandbox serves the {options.dialect} API at {url}")
        click.echo(f"API key: {options.api_key}")
        click.echo(f"Songs: {url}/sandbox/catalogue   Books: {url}/sandbox/books   Stop with Ctrl-C.")
        sys.stdout.flush()
        if port_file is not None:
            port_file.write_text(str(listener.getsockname()[1]))
        server.run(sockets=[listener])
