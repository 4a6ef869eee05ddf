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


class TestRequests:
    def test_log_in_once_and_carry_the_token(self, api, httpserver):
        httpserver.expect_request(
            "/api/v2/importErrors", headers={"Authorization": "Bearer T"}
        ).respond_with_json({"import_errors": []})

        assert api.import_errors() == api.import_errors() == []
        paths = [request.path for request, _ in httpserver.log]
        assert paths.count("/auth/token") == 1

    def test_a_refusal_is_an_error_with_airflows_words(self, api, httpserver):
        httpserver.expect_request("/api/v2/dags/d/dagRuns").respond_with_json(
            {"detail": "Invalid input for param destination"}, status=400
        )

        with pytest.raises(AirflowApiError, match=r"(?s)400 to POST .*Invalid input for param destination"):
            api.trigger("d")

    def test_no_answer_is_an_error_of_its_own_kind(self):
        url = f"http://127.0.0.1:{free_port()}"
        for ask in (
            AirflowApi(url, "demo", "secret").health,
            AirflowApi(url, "demo", "secret").import_errors,
        ):
            with pytest.raises(AirflowAwayError, match="did not answer"):
                ask()

    def test_connections_are_replaced_and_extras_written_as_json(self, api, httpserver):
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

    def test_a_connection_that_airflow_refuses_is_an_error(self, api, httpserver):
        httpserver.expect_request("/api/v2/connections").respond_with_json(
            {"create": {"success": [], "errors": [{"error": "conn_type too long"}]}}
        )

        with pytest.raises(AirflowApiError, match="conn_type too long"):
            api.put_connections({"a": {"conn_type": "x" * 999}})

    def test_task_instances_come_from_all_pages_in_order(self, api, httpserver):
        def page(request):
            from werkzeug import Response

            everything = [instance("separate", index) for index in reversed(range(250))]
            offset = int(request.args["offset"])
            body = {"task_instances": everything[offset : offset + 100], "total_entries": 250}
            return Response(json.dumps(body), content_type="application/json")

        httpserver.expect_request("/api/v2/dags/d/dagRuns/r/taskInstances").respond_with_handler(page)

        assert [ti["map_index"] for ti in api.task_instances("d", "r", "separate")] == list(range(250))


class TestWaiting:
    @pytest.fixture
    def answers(self, api, monkeypatch):
        """Let task instances and run states come from a list, the last one for ever."""

        def set_up(name, values):
            values = list(values)
            monkeypatch.setattr(
                api, name, lambda *_, **__: values.pop(0) if len(values) > 1 else values[0], raising=True
            )

        return SimpleNamespace(
            runs=lambda *states: set_up("dag_run", ({"state": state} for state in states)),
            tasks=lambda *instances: set_up("task_instances", ([one] for one in instances)),
        )

    def test_returns_the_state_a_run_ended_in_and_lets_one_watch(self, api, answers):
        answers.runs("queued", "running", "failed")
        looks = []

        assert api.wait_for_run("d", "r", every=0, watch=lambda: looks.append(1)) == "failed"
        assert len(looks) == 3

    def test_a_run_that_never_ends_is_an_error_that_describes_its_tasks(self, api, answers):
        answers.runs("running")
        answers.tasks(instance("separate", 3, "deferred", 2))

        with pytest.raises(AirflowApiError, match=r"is running after 0 s: separate\[3\] deferred \(try 2\)"):
            api.wait_for_run("d", "r", timeout=0, every=0)

    def test_a_task_is_waited_for_until_it_is_in_the_state(self, api, answers):
        answers.tasks(instance(state="queued"), instance(state="running"), instance(state="deferred"))

        assert api.wait_for_task("d", "r", "t", ["deferred"], every=0)["state"] == "deferred"

    def test_a_task_that_ended_otherwise_is_an_error_at_once(self, api, answers):
        answers.tasks(instance(state="failed"))

        with pytest.raises(AirflowApiError, match=r"to be deferred; it is t failed \(try 1\)"):
            api.wait_for_task("d", "r", "t", ["deferred"], timeout=60)


def test_run_ids_with_reserved_characters_reach_their_run(api, httpserver):
    httpserver.expect_request("/api/v2/dags/d/dagRuns/" + RUN_ID).respond_with_json({"state": "success"})

    assert api.dag_run("d", RUN_ID)["state"] == "success"
    assert httpserver.log[-1][0].environ["RAW_URI"].startswith(RUN)


def test_a_log_shows_the_reason_of_a_failure(api, httpserver):
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
