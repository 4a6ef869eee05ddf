"""What the provider adds to Airflow's own processes."""

from __future__ import annotations

import gc
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from airflow_provider_vocalsep.callbacks.token import MOUNT_PATH
from airflow_provider_vocalsep.links.page import PageLink
from airflow_provider_vocalsep.links.stems import StemsLink
from airflow_provider_vocalsep.ui.mount import EXTERNAL_VIEWS, PAGE_PATH

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


#: What every task of this provider imports: its operators, and what they need as soon as they run.
WANTED_BY_TASKS = (
    "airflow_provider_vocalsep.operators.vocal_separation",
    "airflow.providers.amazon.aws.hooks.base_aws",
)


async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve callbacks. Every Airflow process imports plugins; only an API server that is called pays for the rest."""
    from airflow_provider_vocalsep.callbacks.receiver import app

    spare_the_heap()
    await app(scope, receive, send)


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page of Airflow's UI, see :func:`receiver`."""
    from airflow_provider_vocalsep.ui.app import app

    spare_the_heap()
    await app(scope, receive, send)


@cache
def spare_the_heap() -> None:
    """
    Take what an API server has loaded by its first request to us out of Python's garbage collection.

    It is a million objects that stay as long as the server does, and to go through them stops every request for more than
    half a second, once in about 1,700 callbacks (docs/callbacks.md). Airflow does the same in its DAG processor and executors.
    """
    gc.freeze()


def forks_task_processes(command: list[str]) -> bool:
    """
    Tell whether an Airflow process is one whose forks run tasks: a scheduler (LocalExecutor) or a Celery worker.

    :param command: Its command line, as in ``sys.argv``.
    """
    return "scheduler" in command or {"celery", "worker"} <= set(command)


class VocalSepPlugin(AirflowPlugin):
    """Registers the links of the provider's operators, the receiver of callbacks and the page."""

    name = "vocalsep"
    operator_extra_links = [StemsLink(), PageLink()]
    fastapi_apps = [
        {"app": receiver, "url_prefix": MOUNT_PATH, "name": "vocalsep callbacks"},
        {"app": page, "url_prefix": PAGE_PATH, "name": "vocalsep page"},
    ]
    external_views = EXTERNAL_VIEWS

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import once, in the parent of task processes, what each of them would import: half of the CPU time of each."""
        if forks_task_processes(sys.argv) and conf.getboolean(
            "vocalsep", "warm_task_processes", fallback=True
        ):
            for module in WANTED_BY_TASKS:
                import_module(module)
