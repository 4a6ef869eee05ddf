"""Signals of a running Airflow: metrics by UDP, links in its UI, lines in its logs."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.demo.report import catalogue_file
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection

SECRET = "a-secret-of-the-live-tests-0123456789"


@pytest.fixture
def song(sandbox):
    row = sandbox.catalogue()[1]
    return {name: row[name] for name in ("key", "title", "task_id", "audio_id", "duration")}


def links(run, task_id, map_index=-1):
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links"
    return run.airflow.api.request("GET", path, params={"map_index": map_index})["extra_links"]


def page_of(run, link, ready):
    """Follow a link, and return the answer of the page's API once its index is up to date."""
    token = requests.post(
        f"{run.airflow.url}/auth/token",
        json={"username": run.airflow.username, "password": run.airflow.password},
        timeout=10,
    ).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    shown = requests.get(f"{run.airflow.url}/{link}", headers=headers, timeout=30)
    assert shown.headers["Content-Type"].startswith("text/html")
    folder, _, view = urlsplit(link).path.rpartition("/")
    address = f"{run.airflow.url}/{folder}/api/{view}?{urlsplit(link).query}"
    answers = []

    def there():
        answers.append(requests.get(address, headers=headers, timeout=30))
        return answers[-1].status_code == 200 and ready(answers[-1].json())

    wait_until(there, timeout=30, what="the page", every=1)
    return answers[-1].json()


def test_track_with_a_callback_is_counted_once_by_worker_and_api_server(
    airflow, run_dag, sandbox, song, destination, cost, statsd_server
):
    vendor = sandbox_connection(sandbox)
    vendor["extra"] |= {"callback_base_url": airflow.url, "callback_secret": SECRET}
    airflow.api.put_connections({"vocalsep_callbacks": vendor})
    before = statsd_server.sums(dag_id="called_back")
    run = run_dag("called_back", {"track": song, "destination": destination}, timeout=150)
    assert run.state == "success"

    def counters():
        now = statsd_server.sums(dag_id="called_back")
        return {
            name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)
        }

    wait_until(lambda: "landing_duration" in counters(), timeout=10, what="metrics")
    paid, counted = cost(), counters()
    callbacks = [counted.pop(f"callback.{effect}", 0) for effect in ("resumed", "remembered")]
    assert sum(callbacks) == 1, "the API server counts deliveries, and workers the rest"
    assert counted == {
        "submitted": paid.submits,
        "credits": paid.credits,
        "separated": 1,
        "separation_duration": 1,
        "landed": 1,
        "landing_duration": 1,
        "stems": 2,
        "bytes": run.xcom("separate")["bytes"],
    }

    log = run.log("separate")
    assert "XCom not found" not in log
    assert "is finished: landing its stems" in log
    shown = page_of(run, links(run, "separate")["Vocal separation"], lambda page: page["row"])
    assert (shown["row"]["track"], shown["row"]["state"]) == (song["key"], "landed")
    assert destination.removeprefix("s3://") in links(run, "separate")["Stems"]


def test_links_of_a_catalogue_open_its_run(airflow, run_dag, sandbox, s3, bucket, prefix, destination):
    s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(sandbox.catalogue()[:2]))
    conf = {
        "catalogue": f"{destination}/catalogue.csv",
        "destination": destination,
        "chunk_size": 2,
        "poll_interval": 1,
    }
    run = run_dag("separate_large_catalogue", conf)
    assert run.state == "success"

    for found in (links(run, "plan")["Vocal separation"], links(run, "separate", 0)["Vocal separation"]):
        assert parse_qs(urlsplit(found).query) == {"dag_id": [run.dag_id], "run_id": [run.run_id]}
        shown = page_of(run, found, lambda page: page["run"])
        assert (shown["run"]["tracks"], shown["run"]["landed"]) == (2, 2)
    assert set(links(run, "separate", 0)) == {"Vocal separation", "Stems"}


def test_link_exists_while_the_task_is_deferred(airflow, sandbox, song, destination, faulty):
    airflow.wait_for_dags(["separate_track"])
    faulty("task", "stuck", times=1)
    conf = {**{name: song[name] for name in ("key", "task_id", "audio_id")}, "destination": destination}
    run_id = airflow.api.trigger("separate_track", conf)
    waiting = airflow.api.wait_for_task("separate_track", run_id, "separate", ["deferred"])
    path = f"dags/separate_track/dagRuns/{run_id}/taskInstances/{waiting['task_id']}/links"

    def link():
        return airflow.api.request("GET", path)["extra_links"]["Vocal separation"]

    wait_until(lambda: bool(link()), timeout=10, what="the link")
    assert parse_qs(urlsplit(link()).query)["track"] == [song["key"]]
    assert airflow.api.request("GET", path)["extra_links"]["Stems"] is None
    airflow.api.request("PATCH", f"dags/separate_track/dagRuns/{run_id}", json={"state": "failed"})
