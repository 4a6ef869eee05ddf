"""The vendor's callbacks to a real API server: waiting tasks are resumed, lost submits adopted."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
import requests
from click.testing import CliRunner

from airflow_provider_vocalsep.callbacks.token import mint, parse_unverified
from airflow_provider_vocalsep.cli.main import main
from airflow_provider_vocalsep.demo.ports import free_port
from airflow_provider_vocalsep.demo.processes import Service, wait_until
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.storage.location import parse_s3_uri

DAG_ID = "called_back"
SECRET = "a-secret-of-the-live-tests-0123456789"


@pytest.fixture(autouse=True)
def connection(airflow, sandbox):
    """A connection with callbacks; polls are five minutes apart."""
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
def history(s3, destination):
    bucket, prefix = parse_s3_uri(destination)

    def read():
        found = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/_vocalsep/ledger/")["Contents"]
        (key,) = [item["Key"] for item in found if item["Key"].endswith(".json")]
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["history"]

    return read


def audit(airflow, run_id):
    rows = airflow.api.request("GET", "eventLogs", params={"dag_id": DAG_ID, "run_id": run_id, "limit": 100})
    return [row["event"] for row in rows["event_logs"] if row["event"].startswith("vocalsep_callback_")]


def set_state(airflow, run_id, state):
    airflow.api.request(
        "PATCH", f"dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances/separate", json={"new_state": state}
    )


def state(airflow, run_id):
    return airflow.api.task_instances(DAG_ID, run_id, "separate")[0]["state"]


def answers(url, status):
    try:
        return requests.post(url, timeout=2).status_code == status
    except requests.RequestException:
        return False


class TestCallback:
    def test_callback_resumes_the_task_and_is_audited(self, separate, cost, history):
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        (line,) = [event for event in history() if event["event"] == "called_back"]
        assert line["code"] == 200
        assert "vocalsep_callback_resumed" in audit(run.airflow, run.run_id)
        assert "The vendor called back" in run.log("separate")

    @pytest.mark.parametrize("kind", ["duplicate", "early"])
    def test_duplicate_or_early_callback_makes_one_landing(self, separate, cost, history, faulty, kind):
        faulty("callback", kind)
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        (line,) = [event for event in history() if event["event"] == "called_back"]
        assert line["vendor_task_id"]

    def test_callback_with_forged_links_changes_nothing(self, separate, cost, faulty):
        faulty("callback", "forged")
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1

    @pytest.mark.parametrize("code", [451, 500, 531])
    def test_callback_about_a_failure_shows_the_vendors_message(self, separate, faulty, code):
        faulty("task", "fail", code=code, message="the vendor is sorry")
        run = separate()

        assert run.state == "failed"
        assert "the vendor is sorry" in run.log("separate")


class TestMissingCallback:
    def test_safety_poll_replaces_a_missing_callback(self, separate, cost, faulty):
        faulty("callback", "none")
        run = separate(poll_interval=6)

        assert run.state == "success"
        assert cost().submits == 1


class TestCallbackForAnotherState:
    """The callback arrives while a person ends or clears the task that waits for it."""

    @pytest.fixture
    def parked(self, airflow, song, destination, sandbox, faulty):
        """A task instance that stays deferred until a callback: its vendor task never ends."""
        faulty("task", "stuck")
        airflow.wait_for_dags([DAG_ID])
        run_id = airflow.api.trigger(DAG_ID, {"track": song, "destination": destination})
        airflow.api.wait_for_task(DAG_ID, run_id, "separate", ["deferred"])
        time.sleep(3)  # past the resume delay, see triggers/resume_delay.py
        yield run_id
        if state(airflow, run_id) != "failed":
            set_state(airflow, run_id, "failed")

    @pytest.fixture
    def call_back(self, sandbox):
        """Deliver a callback; each part of the token and of the body can be changed."""

        def post(token_changes=None, **body):
            task = sandbox.books()["tasks"][-1]
            claims = parse_unverified(task["callback_url"].rsplit("/", 1)[1])
            url = task["callback_url"].rsplit("/", 1)[0]
            token = mint(replace(claims, **(token_changes or {})), SECRET)
            said = {"code": 200, "msg": "done", "data": {"task_id": task["vendor_task_id"]}, **body}
            return requests.post(f"{url}/{token}", json=said, timeout=15).status_code

        return post

    def test_callback_does_not_undo_a_task_marked_failed(self, airflow, parked, call_back):
        set_state(airflow, parked, "failed")

        assert call_back() == 200
        assert state(airflow, parked) == "failed"
        assert "vocalsep_callback_late" in audit(airflow, parked)

    @pytest.mark.parametrize(
        "other",
        [
            {"data": {"task_id": "f" * 32}},
            {"token_changes": {"map_index": 5}},
            {"token_changes": {"dag_id": "another"}},
            {"token_changes": {"run_id": "another"}},
            {"token_changes": {"task_id": "another"}},
        ],
        ids=["other vendor task", "other map index", "other DAG", "other run", "other task"],
    )
    def test_callback_for_another_task_does_not_resume_it(self, airflow, parked, call_back, other):
        assert call_back(**other) == 200
        time.sleep(1)
        assert state(airflow, parked) == "deferred"

    def test_task_is_deferred_again_if_the_record_does_not_confirm_the_callback(
        self, airflow, parked, call_back
    ):
        assert call_back() == 200
        airflow.api.wait_for_task(DAG_ID, parked, "separate", ["queued", "running", "scheduled"])
        airflow.api.wait_for_task(DAG_ID, parked, "separate", ["deferred"])
        assert "vocalsep_callback_resumed" in audit(airflow, parked)

    def test_next_try_of_a_cleared_task_waits_for_the_same_vendor_task(
        self, airflow, parked, call_back, cost
    ):
        airflow.api.clear(DAG_ID, parked, ["separate"])
        airflow.api.wait_for_task(DAG_ID, parked, "separate", ["queued", "running", "scheduled"])
        airflow.api.wait_for_task(DAG_ID, parked, "separate", ["deferred"])

        assert call_back(data={"task_id": "f" * 32}) == 200
        time.sleep(1)
        assert state(airflow, parked) == "deferred"
        assert cost().submits <= 1


class TestRestart:
    @pytest.mark.parametrize("component", ["api-server", "scheduler", "triggerer"])
    def test_restart_before_the_callback_arrives_loses_nothing(
        self, airflow, song, destination, cost, faulty, component
    ):
        faulty("callback", "late", seconds=15)
        airflow.wait_for_dags([DAG_ID])
        run_id = airflow.api.trigger(DAG_ID, {"track": song, "destination": destination})
        airflow.api.wait_for_task(DAG_ID, run_id, "separate", ["deferred"])
        airflow.services[component].kill()
        airflow.services[component].start()
        airflow.wait_until_healthy()

        assert airflow.api.wait_for_run(DAG_ID, run_id, timeout=120) == "success"
        assert cost().submits == 1
        assert "vocalsep_callback_resumed" in audit(airflow, run_id)


class TestPathPrefix:
    def test_callback_works_behind_a_path_prefix_and_several_api_server_workers(
        self, airflow, sandbox, song, destination, run_dag, tmp_path
    ):
        port = free_port(None)
        base_url = f"http://127.0.0.1:{port}/music/airflow"
        server = Service(
            "Airflow api-server behind a prefix",
            [sys.executable, "-m", "airflow", "api-server", "--port", str(port), "--workers", "2"],
            log_path=tmp_path / "api-server.log",
            env={
                "AIRFLOW_HOME": str(airflow.home),
                "AIRFLOW__API__BASE_URL": base_url,
                "AIRFLOW__API__PORT": str(port),
            },
        )
        vendor = sandbox_connection(sandbox)
        vendor["extra"] |= {"callback_base_url": base_url, "callback_secret": SECRET}
        airflow.api.put_connections({"vocalsep_prefix": vendor})
        with server:
            wait_until(
                lambda: answers(f"{base_url}/vocalsep/callback/x", 401),
                what="the API server",
                timeout=90,
                services=[server],
            )
            conf = {"track": song, "destination": destination, "conn_id": "vocalsep_prefix"}
            run = run_dag(DAG_ID, conf, timeout=120)

        assert run.state == "success"
        assert "vocalsep_callback_resumed" in audit(airflow, run.run_id)


class TestCallbackCheck:
    """``vocalsep callback-check`` names the step that fails."""

    @pytest.fixture
    def check(self, airflow, monkeypatch):
        def run(**extra):
            fields = {"callback_base_url": airflow.url, "callback_secret": SECRET, **extra}
            value = {"conn_type": "vocalsep", "password": "key", "extra": fields}
            monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_CALLBACKS", json.dumps(value))
            answer = CliRunner().invoke(main, ["callback-check", "--conn-id", "vocalsep_callbacks"])
            return answer.exit_code, " ".join(answer.output.split())

        return run

    def test_every_step_succeeds(self, check):
        code, said = check()

        assert code == 0, said
        parts = ("Name:", "Connection:", "Path:", "Token, signature, database:")
        assert [part for part in parts if part not in said] == []

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"callback_secret": "another-secret-0123456789"}, "Token or signature:"),
            ({"callback_base_url": "http://nothing.invalid"}, "Name: nothing.invalid is not known"),
            ({"callback_base_url": "http://127.0.0.1:1"}, "Connection: nothing answers"),
            ({"callback_base_url": ""}, "does not switch callbacks on"),
            ({"callback_secret": "short"}, "at least 16 characters"),
        ],
    )
    def test_failing_step_is_named(self, check, changed, says):
        code, said = check(**changed)

        assert code == 1
        assert says in said

    def test_path_that_a_proxy_does_not_pass_on_is_named(self, check, airflow):
        code, said = check(callback_base_url=f"{airflow.url}/somewhere/else")

        assert code == 1
        assert "broken Path:" in said


class TestLostSubmit:
    def test_submit_with_a_broken_connection_is_adopted_in_the_same_try(
        self, separate, cost, history, faulty
    ):
        faulty("submit", "accept_then_drop", times=1)
        run = separate()

        assert run.state == "success"
        assert cost().submits == 1
        assert [event["event"] for event in history()][:3] == ["claimed", "submit_lost", "called_back"] or [
            event["event"] for event in history()
        ][:3] == ["claimed", "submit_lost", "adopted"]

    def test_submit_with_a_late_answer_is_adopted_in_the_same_try(self, separate, cost, history, faulty):
        faulty("submit", "slow", seconds=4, times=1)
        run = separate(moment="impatient")

        assert run.state == "success"
        assert cost().submits == 1
        assert "submit_lost" in [event["event"] for event in history()]
        assert [ti["try_number"] for ti in run.tasks()] == [1]

    def test_submit_of_a_killed_worker_is_adopted_by_the_retry(self, separate, cost, history):
        run = separate(moment="after the vendor accepted")

        assert run.state == "success"
        assert [ti["try_number"] for ti in run.tasks()] == [2]
        assert cost().submits == 1
        assert "adopted" in [event["event"] for event in history()]

    def test_submit_that_never_reached_the_vendor_fails_after_the_grace(self, separate, cost):
        run = separate(moment="before the submit", adoption_grace=5)

        assert run.state == "failed"
        assert cost().submits == 0
        log = run.log("separate", try_number=2)
        assert "Nothing is submitted meanwhile" in log
        assert "on_lost_submit='resubmit'" in log

    def test_submit_that_never_reached_the_vendor_is_repeated_after_the_grace_with_resubmit(
        self, separate, cost
    ):
        run = separate(moment="before the submit", adoption_grace=5, on_lost_submit="resubmit")

        assert run.state == "success"
        assert cost().submits == 1
