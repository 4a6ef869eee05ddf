"""The links of a task instance, which are computed without any request."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

import airflow_provider_vocalsep
from airflow_provider_vocalsep.get_provider_info import get_provider_info
from airflow_provider_vocalsep.links.page import PageLink
from airflow_provider_vocalsep.links.stems import StemsLink
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.operators.vocal_separation import (
    VocalSeparationBatchOperator,
    VocalSeparationOperator,
)
from airflow_provider_vocalsep.plugin import VocalSepPlugin
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.transfers.vocal_separation_to_s3 import VocalSeparationToS3Operator
from airflow_provider_vocalsep.ui.app import app

AWKWARD = "Ærø/1 & 2? #3 + 50% 🎵"
RUN = "manual__2026-11-23T10:00:00+00:00"
TI = SimpleNamespace(dag_id="my dag", run_id=RUN, task_id="group.separate", map_index=7, try_number=2)
IDS = {"task_id": "0" * 32, "audio_id": "a"}
THIS_RUN = {"dag_id": "my dag", "run_id": RUN}
THIS_TASK = {**THIS_RUN, "task_id": "group.separate", "map_index": "7"}


def single(**arguments):
    fields = {"track": {"key": AWKWARD, **IDS}, "destination": "s3://stems/x", **arguments}
    return VocalSeparationOperator(task_id="t", **fields)


def transfer(**arguments):
    return VocalSeparationToS3Operator(
        task_id="t", vendor_task_id="V1", destination="s3://stems", **arguments
    )


def open_page(operator, base="https://example.com/team/airflow/"):
    """Return the view and the query that the link requests in a browser, by the base URL of Airflow's UI."""
    link = PageLink().get_link(operator, ti_key=TI)
    parts = urlsplit(urljoin(base, link))
    folder, view = parts.path.rsplit("/", 1)
    assert folder == urlsplit(base).path + "vocalsep-audit"
    assert f"/{view}" in {route.path for route in app.routes}
    return view, {name: value for name, (value,) in parse_qs(parts.query, strict_parsing=True).items()}


class TestPageLink:
    @pytest.mark.parametrize("base", ["http://localhost:8080/", "https://example.com/team/airflow/"])
    @pytest.mark.parametrize(
        ("operator", "shows"),
        [
            (single(), ("track", {**THIS_TASK, "track": AWKWARD})),
            (single(track={"key": f"  {AWKWARD}\n", **IDS}), ("track", {**THIS_TASK, "track": AWKWARD})),
            (single(track={"key": 17, **IDS}), ("track", {**THIS_TASK, "track": "17"})),
            (transfer(), ("track", {**THIS_TASK, "track": "V1"})),
            (transfer(track_key=AWKWARD), ("track", {**THIS_TASK, "track": AWKWARD})),
            (
                VocalSeparationBatchOperator(task_id="t", tracks=[], destination="s3://stems"),
                ("run", THIS_RUN),
            ),
            (PlanCatalogueOperator(task_id="t", destination="s3://stems"), ("run", THIS_RUN)),
            (VocalSeparationSensor(task_id="t", vendor_task_id="V1"), ("tracks", {"q": "V1"})),
        ],
    )
    def test_link_opens_the_view_that_shows_the_task(self, operator, shows, base):
        assert any(isinstance(link, PageLink) for link in operator.operator_extra_links)
        assert open_page(operator, base) == shows

    def test_page_reads_every_name_in_the_links(self):
        static = Path(airflow_provider_vocalsep.__file__).parent / "ui" / "static"
        main, track, tracks = ((static / f"{name}.js").read_text() for name in ("main", "track", "tracks"))

        views = re.search(r"const views = \{(.*)\}", main)[1]
        names = re.search(r"const \{([^}]*)\} = asked", track)[1]

        assert {"run:", "tracks:", "track:"} <= set(views.split())
        assert set(re.findall(r"\w+", names)) | {"map_index"} == {*THIS_TASK, "track"}
        assert "asked.map_index" in track
        assert "q: asked.q" in tracks

    @pytest.mark.parametrize("operator", [single(destination=None), single(track="{{ params.track }}")])
    def test_task_without_a_report_has_no_link(self, operator):
        assert PageLink().get_link(operator, ti_key=TI) == ""


class TestStemsLink:
    def test_link_is_set_by_the_operator_when_it_has_run(self):
        operator = single()
        assert StemsLink().get_link(operator, ti_key=TI) == ""

        operator.stems_link = "https://console/stems"

        assert StemsLink().get_link(operator, ti_key=TI) == "https://console/stems"


class TestRegistration:
    def test_both_links_are_registered_by_provider_info_and_plugin(self):
        named = {path.rsplit(".", 1)[1] for path in get_provider_info()["extra-links"]}
        registered = {type(link).__name__ for link in VocalSepPlugin.operator_extra_links}

        assert named == {"PageLink", "StemsLink"} == registered
        assert len({link.xcom_key for link in VocalSepPlugin.operator_extra_links}) == 2
