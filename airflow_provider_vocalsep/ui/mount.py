"""Paths of the page in the API server. Every Airflow process imports this module, so it imports nothing."""

from __future__ import annotations

#: Mount of the page. Not below the receiver's, which is public.
PAGE_PATH = "/vocalsep-audit"

#: Without a leading slash: Airflow resolves the addresses against its own base path.
_HREF = PAGE_PATH.lstrip("/")

_APPEARANCE = {
    "name": "Vocal separation",
    "icon": f"{_HREF}/static/icon.svg",
    "icon_dark_mode": f"{_HREF}/static/icon-dark.svg",
}

#: Entries of Airflow's menu and of a DAG run's tabs (``AirflowPlugin.external_views``).
EXTERNAL_VIEWS = [
    {
        **_APPEARANCE,
        "href": f"{_HREF}/",
        "url_route": "vocalsep",
        "destination": "nav",
        "category": "browse",
    },
    {
        **_APPEARANCE,
        "href": f"{_HREF}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&tab=1",
        "url_route": "vocalsep-run",
        "destination": "dag_run",
    },
]
