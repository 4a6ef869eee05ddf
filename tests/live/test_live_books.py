"""A run with faults in a real Airflow: audit, page and the vendor's books show the same numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from airflow_provider_vocalsep.cli.main import main
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.ui.mount import PAGE_PATH

SECRET = "a-secret-of-the-live-tests-0123456789"


@pytest.fixture
def songs(airflow, sandbox):
    """Songs of the catalogue; sets a connection with callbacks."""
    vendor = sandbox_connection(sandbox)
    vendor["extra"] |= {"callback_base_url": airflow.url, "callback_secret": SECRET}
    airflow.api.put_connections({"vocalsep_callbacks": vendor})
    names = ("key", "title", "task_id", "audio_id", "duration")
    return [{name: song[name] for name in names} for song in sandbox.catalogue()[:4]]


@pytest.fixture
def booked_since(sandbox, booked):
    """Return what the vendor has booked since the test began."""
    before = booked(sandbox)
    return lambda: {name: value - before[name] for name, value in booked(sandbox).items()}


@pytest.fixture
def audited(destination, seaweed, monkeypatch):
    """Return the totals of ``vocalsep audit``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    command = ["audit", destination, "--endpoint-url", seaweed.endpoint_url, "--format", "json"]

    def ask():
        answer = CliRunner().invoke(main, command)
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)["totals"]

    return ask


@pytest.fixture
def page(airflow):
    """Request the page's API as Airflow's user."""
    airflow.api.log_in()
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = airflow.api._session.headers["Authorization"]

    def ask(route, **query) -> Any:
        answer = session.get(f"{airflow.url}{PAGE_PATH}/api/{route}", params=query, timeout=30)
        answer.raise_for_status()
        return answer.json()

    return ask


def page_totals(page, run):
    """Return the totals that the page shows of a run, and those of its tracks' histories."""
    who = {"dag_id": run.dag_id, "run_id": run.run_id}
    wait_until(lambda: (page("run", **who)["run"] or {}).get("concluded"), what="the page", timeout=60)
    head = page("run", **who)["run"]
    rows = page("tracks", **who)["tracks"]
    names = ("dag_id", "run_id", "task_id", "map_index", "track")
    stories = [page("track", **{name: row[name] for name in names}) for row in rows]
    events = [event for story in stories for event in story["entry"]["history"]]
    assert {row["state"] for row in rows} == {"landed"}
    return {
        "submits": head["submits"],
        "credits": head["credits"],
        "failures": sum(event["event"] == "failed" for event in events),
        "callbacks": sum(event["count"] for event in events if event["event"] == "called_back"),
    }


def test_audit_page_and_vendor_show_the_same_numbers_after_a_run_with_faults(
    run_dag, faulty, sandbox, songs, booked_since, audited, page, destination
):
    unlucky, lost, slowed, broken = [song["audio_id"] for song in songs]
    faulty("task", "fail", track=unlucky, code=500, message="bad luck", times=1)
    faulty("callback", "duplicate", track=unlucky, times=1)
    faulty("submit", "accept_then_drop", track=lost, times=1)
    faulty("submit", "code", track=slowed, code=430, times=1)
    faulty("task", "fail", track=slowed, code=531, message="given back", times=1)
    faulty("task", "fail", track=broken, code=451, message="no audio there")
    run = run_dag("batches", {"tracks": songs, "destination": destination}, timeout=240)
    assert run.state == "failed", "one track failed permanently"
    sandbox.clear_faults()
    run = run.clear_and_wait("separate")
    assert run.state == "success"

    books = booked_since()
    assert books == {
        "submits": 7,
        "credits": 70,
        "given_back": 10,
        "failures": 3,
        "refusals": 1,
        "callbacks": 8,
    }
    totals = audited()
    assert {name: totals[name] for name in books} == books
    assert (totals["states"], totals["in_doubt"]) == ({"landed": 4}, 0)
    names = ("submits", "failures", "callbacks")
    assert page_totals(page, run) == {**{name: books[name] for name in names}, "credits": 60}
