from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from airflow_provider_vocalsep.demo.airflow_api import AirflowApi, AirflowApiError, AirflowAwayError
from airflow_provider_vocalsep.demo.ports import free_port

RUN = "/api/v2/dags/d/dagRuns/manual__2026-11-23T02%3A42%3A08%2B00%3A00"
RUN_ID = "manual__2026-11-23T02:42:08+00:00"


def instance(task_id="t", map_index=-1, state="running", try_number=1):
    return {"task_id": task_id, "map_index": map_index, "state": state, "try_number": try_number}


@pytest.fixture
def api(httpserver):
    httpserver.expect_request("/auth/token", method="POST").respond_with_json(
        {"access_token": "T"}, status=201
    )
    return AirflowApi(httpserver.url_for("").rstrip("/"), "demo", "secret")


class TestRequest:
    def test_requests_log_in_once_and_send_the_token(self, api, httpserver):
        httpserver.expect_request(
            "/api/v2/importErrors", headers={"Authorization": "Bearer T"}
        ).respond_with_json({"import_errors": []})

        answers = [api.import_errors() for _ in range(2)]

        assert answers == [[], []]
        paths = [request.path for request, _ in httpserver.log]
        assert paths.count("/auth/token") == 1

    def test_refused_request_is_an_error_with_airflows_message(self, api, httpserver):
        httpserver.expect_request("/api/v2/dags/d/dagRuns").respond_with_json(
            {"detail": "Invalid input for param destination"}, status=400
        )

        with pytest.raises(AirflowApiError, match=r"(?s)400 to POST .*Invalid input for param destination"):
            api.trigger("d")

    @pytest.mark.parametrize("method", ["health", "import_errors"])
    def test_missing_answer_is_an_airflow_away_error(self, method):
        api = AirflowApi(f"http://127.0.0.1:{free_port()}", "demo", "secret")

        with pytest.raises(AirflowAwayError, match="did not answer"):
            getattr(api, method)()


class TestPutConnections:
    def test_connections_are_overwritten_and_extras_sent_as_json(self, api, httpserver):
        httpserver.expect_request("/api/v2/connections", method="PATCH").respond_with_json(
            {"create": {"success": ["a"], "errors": []}}
        )

        api.put_connections({"a": {"conn_type": "aws", "extra": {"x": 1}}, "b": {"conn_type": "http"}})

        (action,) = json.loads(httpserver.log[-1][0].data)["actions"]
        assert action["action_on_existence"] == "overwrite"
        assert action["entities"] == [
            {"conn_type": "aws", "extra": '{"x": 1}', "connection_id": "a"},
            {"conn_type": "http", "connection_id": "b", "extra": None},
        ]

    def test_refused_connection_is_an_error(self, api, httpserver):
        httpserver.expect_request("/api/v2/connections").respond_with_json(
            {"create": {"success": [], "errors": [{"error": "conn_type too long"}]}}
        )

        with pytest.raises(AirflowApiError, match="conn_type too long"):
            api.put_connections({"a": {"conn_type": "x" * 999}})


class TestTaskInstances:
    def test_task_instances_of_all_pages_are_returned_in_order(self, api, httpserver):
        def page(request):
            from werkzeug import Response

            everything = [instance("separate", index) for index in reversed(range(250))]
            offset = int(request.args["offset"])
            body = {"task_instances": everything[offset : offset + 100], "total_entries": 250}
            return Response(json.dumps(body), content_type="application/json")

        httpserver.expect_request("/api/v2/dags/d/dagRuns/r/taskInstances").respond_with_handler(page)

        found = api.task_instances("d", "r", "separate")

        assert [ti["map_index"] for ti in found] == list(range(250))


class TestWaitForRun:
    @pytest.fixture
    def answers(self, api, monkeypatch):
        """Answer reads of runs and task instances from a list, the last item for ever."""

        def set_up(name, values):
            values = list(values)
            monkeypatch.setattr(
                api, name, lambda *_, **__: values.pop(0) if len(values) > 1 else values[0], raising=True
            )

        return SimpleNamespace(
            runs=lambda *states: set_up("dag_run", ({"state": state} for state in states)),
            tasks=lambda *instances: set_up("task_instances", ([one] for one in instances)),
        )

    def test_final_state_is_returned_after_a_watch_call_per_poll(self, api, answers):
        answers.runs("queued", "running", "failed")
        calls = []

        state = api.wait_for_run("d", "r", every=0, watch=lambda: calls.append(1))

        assert state == "failed"
        assert len(calls) == 3

    def test_timed_out_run_is_an_error_that_describes_its_tasks(self, api, answers):
        answers.runs("running")
        answers.tasks(instance("separate", 3, "deferred", 2))

        with pytest.raises(AirflowApiError, match=r"is running after 0 s: separate\[3\] deferred \(try 2\)"):
            api.wait_for_run("d", "r", timeout=0, every=0)


def test_dag_run_quotes_reserved_characters_of_the_run_id(api, httpserver):
    httpserver.expect_request("/api/v2/dags/d/dagRuns/" + RUN_ID).respond_with_json({"state": "success"})

    run = api.dag_run("d", RUN_ID)

    assert run["state"] == "success"
    assert httpserver.log[-1][0].environ["RAW_URI"].startswith(RUN)


def test_log_contains_the_exception_of_a_failed_task(api, httpserver):
    httpserver.expect_request("/api/v2/dags/d/dagRuns/r/taskInstances/t/logs/2").respond_with_json(
        {
            "content": [
                {"event": "Submitting", "level": "info", "timestamp": "2026-11-23T02:42:08Z"},
                {
                    "event": "Task failed",
                    "level": "error",
                    "error_detail": [{"exc_type": "OutOfCreditsError", "exc_value": "top up"}],
                },
            ]
        }
    )

    log = api.log("d", "r", "t", try_number=2)

    assert "2026-11-23T02:42:08Z info Submitting" in log
    assert "error Task failed\nOutOfCreditsError: top up" in log
