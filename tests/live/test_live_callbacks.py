"""The vendor's callbacks through a real API server: who waits is resumed, what was lost is adopted."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.demo.report import Books
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.landing.keys import parse_s3_uri

DAG_ID = "called_back"
SECRET = "a-secret-of-the-live-tests-0123456789"


@pytest.fixture(autouse=True)
def connection(airflow, sandbox):
    """A connection with callbacks; its polls are five minutes apart."""
    vendor = sandbox_connection(sandbox)
    vendor["extra"] |= {"callback_base_url": airflow.url, "callback_secret": SECRET}
    airflow.api.put_connections({"vocalsep_callbacks": vendor})


@pytest.fixture
def song(sandbox):
    row = sandbox.catalogue()[1]
    return {name: row[name] for name in ("key", "title", "task_id", "audio_id", "duration")}


@pytest.fixture
def separate(run_dag, song, destination):
    return lambda **conf: run_dag(DAG_ID, {"track": song, "destination": destination, **conf}, timeout=150)


@pytest.fixture
def cost(sandbox):
    before = Books.read(sandbox.books())
    return lambda: Books.read(sandbox.books()) - before


@pytest.fixture
def history(s3, destination):
    bucket, prefix = parse_s3_uri(destination)

    def read():
        found = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/_vocalsep/ledger/")["Contents"]
        (key,) = [item["Key"] for item in found if item["Key"].endswith(".json")]
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["history"]

    return read


def audit(run):
    rows = run.airflow.api.request(
        "GET", "eventLogs", params={"dag_id": DAG_ID, "run_id": run.run_id, "limit": 100}
    )
    return [row["event"] for row in rows["event_logs"] if row["event"].startswith("vocalsep_callback_")]


class TestACallback:
    def test_wakes_the_task_and_is_audited(self, separate, cost, history):
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        (line,) = [event for event in history() if event["event"] == "called_back"]
        assert line["code"] == 200
        assert "vocalsep_callback_resumed" in audit(run)
        assert "The vendor called back" in run.log("separate")

    @pytest.mark.parametrize("kind", ["duplicate", "early"])
    def test_that_comes_twice_or_too_early_is_one_landing(self, separate, cost, history, faulty, kind):
        faulty("callback", kind)
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        (line,) = [event for event in history() if event["event"] == "called_back"]
        assert line["vendor_task_id"]

    def test_that_lies_about_its_links_changes_nothing(self, separate, cost, faulty):
        faulty("callback", "forged")
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1

    @pytest.mark.parametrize("code", [451, 500, 531])
    def test_of_a_failure_shows_the_vendors_words(self, separate, faulty, code):
        faulty("task", "fail", code=code, message="the vendor is sorry")
        run = separate()

        assert run.state == "failed"
        assert "the vendor is sorry" in run.log("separate")


class TestALostSubmit:
    def test_whose_connection_broke_is_adopted_in_the_same_try(self, separate, cost, history, faulty):
        faulty("submit", "accept_then_drop", times=1)
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        assert [event["event"] for event in history()][:3] == ["claimed", "submit_lost", "called_back"] or [
            event["event"] for event in history()
        ][:3] == ["claimed", "submit_lost", "adopted"]

    def test_of_a_killed_worker_is_adopted_by_the_retry(self, separate, cost, history):
        run = separate(moment="after the vendor accepted")

        assert run.state == "success"
        assert [ti["try_number"] for ti in run.tasks()] == [2]
        assert cost().submits == 1
        assert "adopted" in [event["event"] for event in history()]

    def test_that_never_reached_the_vendor_fails_when_the_grace_is_over(self, separate, cost):
        run = separate(moment="before the submit", adoption_grace=5)

        assert run.state == "failed"
        assert cost().submits == 0
        log = run.log("separate", try_number=2)
        assert "Nothing is submitted meanwhile" in log
        assert "on_lost_submit='resubmit'" in log

    def test_that_never_reached_the_vendor_is_submitted_anew_after_the_grace_when_told_so(
        self, separate, cost
    ):
        run = separate(moment="before the submit", adoption_grace=5, on_lost_submit="resubmit")

        assert run.state == "success"
        assert cost().submits == 1
