"""Callbacks with PostgreSQL, which restarts, too."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from airflow_provider_vocalsep.demo.airflow_api import AirflowApiError
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from tests.bed.airflow import running_airflow
from tests.bed.postgres import postgres_installed, running_postgres

pytestmark = pytest.mark.skipif(not postgres_installed(), reason="PostgreSQL is not installed")

DAG_ID = "called_back"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres") / "postgres.log") as server:
        yield server


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, postgres, sandbox, seaweed, dags_folders):
    """An Airflow of its own, with PostgreSQL."""
    with running_airflow(
        tmp_path_factory.mktemp("airflow-postgres"),
        dags_folders=dags_folders,
        connections={"aws_default": seaweed.connection},
        options={"database": {"sql_alchemy_conn": postgres.url}},
        port=None,
    ) as stack:
        vendor = sandbox_connection(
            sandbox, callback_base_url=stack.url, callback_secret="a-secret-of-the-live-tests-0123456789"
        )
        stack.api.put_connections({"vocalsep_callbacks": vendor})
        yield stack


@pytest.fixture
def songs(sandbox):
    names = ("key", "title", "task_id", "audio_id", "duration")
    return [{name: song[name] for name in names} for song in sandbox.catalogue()[:3]]


class Supervisor:
    """
    Supervises Airflow's processes, as a deployment does.

    Restarts ended processes, and kills a scheduler without a heartbeat (Airflow 3.3's may hang while it shuts
    its executor down because the database is down). Like a start-up probe, it gives a scheduler that has just
    started the time to its first heartbeat.
    """

    START_UP = 45

    def __init__(self, airflow):
        self.airflow = airflow
        self.judged_from = time.monotonic() + self.START_UP

    def __call__(self):
        for service in self.airflow.services.values():
            if not service.running:
                service.start()
                self.judged_from = time.monotonic() + self.START_UP
        if time.monotonic() < self.judged_from:
            return
        with suppress(AirflowApiError, OSError):
            if self.airflow.api.health()["scheduler"] != "healthy":
                self.airflow.services["scheduler"].kill()


def callbacks(airflow, run_id):
    rows = airflow.api.request("GET", "eventLogs", params={"dag_id": DAG_ID, "run_id": run_id, "limit": 100})
    return [row["event"] for row in rows["event_logs"] if row["event"].startswith("vocalsep_callback_")]


def test_callback_resumes_the_task(run_dag, songs, destination, cost):
    run = run_dag(DAG_ID, {"track": songs[0], "destination": destination})

    assert run.state == "success"
    assert cost().submits == 1
    assert "vocalsep_callback_resumed" in callbacks(run.airflow, run.run_id)


def test_restart_of_the_database_before_callbacks_arrive_loses_nothing(
    airflow, postgres, songs, destination, cost, faulty
):
    faulty("callback", "late", seconds=8)
    airflow.wait_for_dags([DAG_ID])
    conf = {"destination": destination, "poll_interval": 30}
    run_ids = [airflow.api.trigger(DAG_ID, {"track": song, **conf}) for song in songs]
    for run_id in run_ids:
        airflow.api.wait_for_task(DAG_ID, run_id, "separate", ["deferred"])
    postgres.service.kill()
    time.sleep(5)
    postgres.service.start()
    postgres.wait_until_ready()

    supervise = Supervisor(airflow)

    def answers():
        supervise()
        try:
            return airflow.api.health()["metadatabase"] == "healthy"
        except AirflowApiError:
            return False

    wait_until(answers, what="the API server", timeout=60, every=1)
    states = [
        airflow.api.wait_for_run(DAG_ID, run_id, timeout=300, watch=supervise, every=2) for run_id in run_ids
    ]
    assert states == ["success"] * 3
    assert cost().submits == 3
