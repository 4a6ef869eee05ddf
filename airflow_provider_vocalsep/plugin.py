"""The Airflow plugin: links, the receiver of callbacks, the page, and imports shared by task processes."""

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


#: Modules that every task of this provider imports.
TASK_MODULES = (
    "airflow_provider_vocalsep.operators.vocal_separation",
    "airflow.providers.amazon.aws.hooks.base_aws",
)


async def serve_callbacks(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve callbacks; imports late, since every Airflow process imports plugins and few need the app."""
    from airflow_provider_vocalsep.callbacks.receiver import app

    freeze_gc()
    await app(scope, receive, send)


async def serve_page(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page in Airflow's UI, see :func:`serve_callbacks`."""
    from airflow_provider_vocalsep.ui.app import app

    freeze_gc()
    await app(scope, receive, send)


@cache
def freeze_gc() -> None:
    """
    Exclude all objects that the API server has loaded so far from Python's garbage collection.

    They are a million and live as long as the server: a collection that traverses them stops every request
    for more than half a second, once in about 1,700 callbacks (docs/callbacks.md). Airflow does the same in
    its DAG processor and executors.
    """
    gc.freeze()


def forks_task_processes(command: list[str]) -> bool:
    """
    Return whether an Airflow process forks to run tasks: a scheduler (LocalExecutor) or a Celery worker.

    :param command: Its command line, as in ``sys.argv``.
    """
    return "scheduler" in command or {"celery", "worker"} <= set(command)


class VocalSepPlugin(AirflowPlugin):
    """Registers the links of the operators, the receiver of callbacks and the page."""

    name = "vocalsep"
    operator_extra_links = [StemsLink(), PageLink()]
    fastapi_apps = [
        {"app": serve_callbacks, "url_prefix": MOUNT_PATH, "name": "vocalsep callbacks"},
        {"app": serve_page, "url_prefix": PAGE_PATH, "name": "vocalsep page"},
    ]
    external_views = EXTERNAL_VIEWS

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import the modules of tasks once, in the parent: the imports take half of a task's CPU time."""
        if forks_task_processes(sys.argv) and conf.getboolean(
            "vocalsep", "warm_task_processes", fallback=True
        ):
            for module in TASK_MODULES:
                import_module(module)
