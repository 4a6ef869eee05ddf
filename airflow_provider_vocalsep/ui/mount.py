"""Where the page is in the API server. Imported by every Airflow process, so it imports nothing itself."""

from __future__ import annotations

#: Mount of the page. Not below the receiver's: that one is for the public.
PAGE_PATH = "/vocalsep-audit"

#: Addresses without a slash in front: Airflow resolves them against its own base, whatever path it is served under.
_HREF = PAGE_PATH.lstrip("/")

_LOOKS = {
    "name": "Vocal separation",
    "icon": f"{_HREF}/static/icon.svg",
    "icon_dark_mode": f"{_HREF}/static/icon-dark.svg",
}

#: What Airflow's menu and the tabs of a DAG run show (``AirflowPlugin.external_views``).
EXTERNAL_VIEWS = [
    {
        **_LOOKS,
        "href": f"{_HREF}/",
        "url_route": "vocalsep",
        "destination": "nav",
        "category": "browse",
    },
    {
        **_LOOKS,
        "href": f"{_HREF}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&tab=1",
        "url_route": "vocalsep-run",
        "destination": "dag_run",
    },
]
