"""A client of Airflow's public REST API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Final states of a DAG run.
RUN_ENDED = frozenset({"success", "failed"})

Json = dict[str, Any]


class AirflowApiError(RuntimeError):
    """Airflow refused a request or did not answer it, or a DAG run or task did not end in time."""


class AirflowAwayError(AirflowApiError, OSError):
    """Airflow did not answer: a later request may succeed."""


class AirflowApi:
    """
    A client of one Airflow.

    :param url: Address of the API server, without a slash at the end.
    :param timeout: Seconds until a request without an answer fails.
    """

    def __init__(self, url: str, username: str, password: str, *, timeout: float = 30) -> None:
        self.url = url
        self._credentials = {"username": username, "password": password}
        self._timeout = timeout
        self._session = requests.Session()
        # Airflow is on loopback: ignore the caller's proxies and .netrc.
        self._session.trust_env = False
        # The server may close an idle connection just as the next request is sent on it.
        self._session.headers["Connection"] = "close"

    def log_in(self) -> None:
        """Get a token. The first request does this by itself."""
        token = self._ask("POST", "auth/token", json=self._credentials)["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """
        Send one request and return the JSON of its answer.

        :param path: Path below ``/api/v2/``.
        :param arguments: As for ``requests.request``.
        :raises AirflowApiError: Airflow refuses the request; the message contains its answer.
        :raises AirflowAwayError: Airflow does not answer.
        """
        if "Authorization" not in self._session.headers:
            self.log_in()
        return self._ask(method, f"api/v2/{path}", **arguments)

    def health(self) -> dict[str, str | None]:
        """Return the health of each component by name, for example ``healthy``."""
        parts = self._ask("GET", "api/v2/monitor/health")
        return {name: part.get("status") for name, part in parts.items()}

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._session.request(method, f"{self.url}/{path}", timeout=self._timeout, **arguments)
        except requests.RequestException as e:
            raise AirflowAwayError(f"Airflow did not answer {method} {self.url}/{path}: {e}") from e
        return _parse_answer(answer)

    def put_connections(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Create connections, and overwrite those with the same id.

        :param connections: Fields of each connection by its id; ``extra`` may be a mapping.
        """
        entities = []
        for name, fields in connections.items():
            extra = fields.get("extra")
            entities.append(
                {
                    **fields,
                    "connection_id": name,
                    "extra": extra if extra is None or isinstance(extra, str) else json.dumps(extra),
                }
            )
        action = {"action": "create", "action_on_existence": "overwrite", "entities": entities}
        errors = self.request("PATCH", "connections", json={"actions": [action]})["create"]["errors"]
        if errors:
            raise AirflowApiError(f"Connections {', '.join(connections)} could not be set: {errors}")

    def import_errors(self) -> list[Json]:
        """Return the import errors of DAG files."""
        return cast("list[Json]", self.request("GET", "importErrors")["import_errors"])

    def has_dag(self, dag_id: str) -> bool:
        """Return whether Airflow has parsed a DAG."""
        dags = self.request("GET", "dags", params={"limit": 100})["dags"]
        return any(dag["dag_id"] == dag_id for dag in dags)

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> str:
        """
        Start a DAG run and return its id.

        :param conf: Parameters of the run.
        :param run_id: Id of the run; by default Airflow generates one.
        :raises AirflowApiError: also if the DAG has a run with this id.
        """
        body = {"logical_date": None, "conf": dict(conf or {}), **({"dag_run_id": run_id} if run_id else {})}
        return cast("str", self.request("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> Json:
        """Return a DAG run."""
        return cast("Json", self.request("GET", dag_run_path(dag_id, run_id)))

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[Json]:
        """Return the task instances of a run, or of one of its tasks, ordered by task and map index."""
        found: list[Json] = []
        while True:
            page = self.request(
                "GET",
                f"{dag_run_path(dag_id, run_id)}/taskInstances",
                params={"limit": 100, "offset": len(found)},
            )
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                break
        wanted = [ti for ti in found if task_id in (None, ti["task_id"])]
        return sorted(wanted, key=lambda ti: (ti["task_id"], ti["map_index"]))

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return a task's log, one event a line."""
        content = self.request(
            "GET",
            f"{dag_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}",
            params={"map_index": map_index},
            headers={"Accept": "application/json"},
        )["content"]
        return "\n".join(map(_format_log_line, content))

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = 300,
        watch: Callable[[], None] = lambda: None,
        every: float = 0.5,
    ) -> str:
        """
        Wait until a DAG run has ended, and return its state: ``success`` or ``failed``.

        :param watch: Called before each poll, for a progress display.
        :param every: Seconds between polls.
        :raises AirflowApiError: at the time-out; the message contains the state of each task instance.
        """
        deadline = time.monotonic() + timeout
        while True:
            watch()
            state = cast("str", self.dag_run(dag_id, run_id)["state"])
            if state in RUN_ENDED:
                return state
            if time.monotonic() > deadline:
                raise AirflowApiError(
                    f"DAG run {run_id} of {dag_id} is {state} after {timeout:.0f} s: "
                    + ", ".join(map(describe_task, self.task_instances(dag_id, run_id)))
                )
            time.sleep(every)


def dag_run_path(dag_id: str, run_id: str) -> str:
    """Return the path of a DAG run below ``/api/v2/``."""
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _parse_answer(answer: requests.Response) -> Any:
    if not answer.ok:
        request = f"{answer.request.method} {answer.url}"
        raise AirflowApiError(f"Airflow answered {answer.status_code} to {request}: {answer.text[:500]}")
    return answer.json() if answer.content else None


def describe_task(instance: Json) -> str:
    """Return a task instance's id, map index, state and try number as text."""
    index = f"[{instance['map_index']}]" if instance["map_index"] >= 0 else ""
    return f"{instance['task_id']}{index} {instance['state']} (try {instance['try_number']})"


def _format_log_line(line: Any) -> str:
    if isinstance(line, str):
        return line
    details = "".join(
        f"\n{error.get('exc_type')}: {error.get('exc_value')}" for error in line.get("error_detail") or ()
    )
    return f"{line.get('timestamp', '')} {line.get('level', '')} {line['event']}{details}".strip()
