"""What the provider adds to Airflow's own processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_vocalsep.callbacks.token import MOUNT_PATH
from airflow_provider_vocalsep.links.stems import StemsLink

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve callbacks. Every Airflow process imports plugins; only an API server that is called pays for the rest."""
    from airflow_provider_vocalsep.callbacks.receiver import app

    await app(scope, receive, send)


class VocalSepPlugin(AirflowPlugin):
    """Registers the links of the provider's operators and the receiver of callbacks."""

    name = "vocalsep"
    operator_extra_links = [StemsLink()]
    fastapi_apps = [{"app": receiver, "url_prefix": MOUNT_PATH, "name": "vocalsep callbacks"}]
