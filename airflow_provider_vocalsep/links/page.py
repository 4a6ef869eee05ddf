"""The link from a task instance to the page that shows its tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_vocalsep.ui.mount import PAGE_PATH

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class PageLink(BaseOperatorLink):
    """
    Opens the page *Vocal separation* at the tracks of a task instance, by the operator's ``page``.

    The address has no leading slash: Airflow's UI resolves it against its own base path, which a worker does
    not know. The link exists once the task first defers or ends, for a batch from its start.
    """

    name = "Vocal separation"
    key = "vocalsep_page_link"

    @property
    def xcom_key(self) -> str:
        """XCom key of the link, which the worker stores."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link of a task instance, empty where the page has nothing to show."""
        page: Any = getattr(operator, "page", None)
        return page(ti_key) if callable(page) else ""


def run_page(ti: TaskInstanceKey) -> str:
    """Return the address of a DAG run's tracks."""
    return _address("run", dag_id=ti.dag_id, run_id=ti.run_id)


def track_page(ti: TaskInstanceKey, track: str) -> str:
    """Return the address of a task instance's track, by its key."""
    map_index = -1 if ti.map_index is None else ti.map_index
    return _address(
        "track", dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=map_index, track=track
    )


def search_page(text: str) -> str:
    """Return the address of a search through the tracks of all runs."""
    return _address("tracks", q=text)


def _address(view: str, **query: str | int) -> str:
    return f"{PAGE_PATH.lstrip('/')}/{view}?{urlencode(query, quote_via=quote)}"
