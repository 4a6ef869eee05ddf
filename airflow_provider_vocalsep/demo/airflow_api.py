"""What a demo or a test asks a running Airflow, through its public REST API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

#: States in which a DAG run stays.
RUN_ENDED = frozenset({"success", "failed"})

#: States in which a task instance stays until somebody acts.
TASK_ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})

Json = dict[str, Any]


class AirflowApiError(RuntimeError):
    """Airflow refused a request or did not answer it, or something did not happen in time."""


class AirflowAwayError(AirflowApiError, OSError):
    """No answer came: who waits for Airflow may ask again."""


class AirflowApi:
    """
    Client of one Airflow.

    :param url: Address of its API server.
    :param username: Who asks.
    :param password: Their password.
    :param timeout: Seconds that one answer may take.
    """

    def __init__(self, url: str, username: str, password: str, *, timeout: float = 30) -> None:
        self.url = url
        self._credentials = {"username": username, "password": password}
        self._timeout = timeout
        self._session = requests.Session()
        # Proxies and .netrc of the caller have no business on loopback.
        self._session.trust_env = False
        # A server that closes an idle connection may do so at the very moment at which it is used again.
        self._session.headers["Connection"] = "close"

    def log_in(self) -> None:
        """Get a token; every request does so by itself when it has none."""
        token = self._ask("POST", "auth/token", json=self._credentials)["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """
        Send one request and return the JSON of its answer.

        :param method: HTTP method.
        :param path: Path below ``/api/v2/``.
        :param arguments: As for ``requests.request``.
        :raises AirflowApiError: with Airflow's words if it refuses; :class:`AirflowAwayError` if no answer comes.
        """
        if "Authorization" not in self._session.headers:
            self.log_in()
        return self._ask(method, f"api/v2/{path}", **arguments)

    def health(self) -> dict[str, str | None]:
        """Return each component's health, ``healthy`` or not, by name."""
        parts = self._ask("GET", "api/v2/monitor/health")
        return {name: part.get("status") for name, part in parts.items()}

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._session.request(method, f"{self.url}/{path}", timeout=self._timeout, **arguments)
        except requests.RequestException as e:
            raise AirflowAwayError(f"Airflow did not answer {method} {self.url}/{path}: {e}") from e
        return _content(answer)

    def put_connections(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Create connections, replacing those of the same name.

        :param connections: By id: ``conn_type`` and the other fields; ``extra`` may be a mapping.
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
        """Return what went wrong with parsing DAG files."""
        return cast("list[Json]", self.request("GET", "importErrors")["import_errors"])

    def has_dag(self, dag_id: str) -> bool:
        """Tell whether a DAG was parsed by now."""
        return any(
            dag["dag_id"] == dag_id for dag in self.request("GET", "dags", params={"limit": 100})["dags"]
        )

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> str:
        """
        Start a DAG run.

        :param dag_id: The DAG.
        :param conf: Its parameters.
        :param run_id: What to call it; by default Airflow finds a name.
        :return: The run's id.
        :raises AirflowApiError: also if there is a run of that name.
        """
        body = {"logical_date": None, "conf": dict(conf or {}), **({"dag_run_id": run_id} if run_id else {})}
        return cast("str", self.request("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> Json:
        """Return a DAG run."""
        return cast("Json", self.request("GET", _run(dag_id, run_id)))

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[Json]:
        """Return the task instances of a run, those of one task if named; mapped ones in their order."""
        found: list[Json] = []
        while True:
            page = self.request(
                "GET", f"{_run(dag_id, run_id)}/taskInstances", params={"limit": 100, "offset": len(found)}
            )
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                break
        wanted = [ti for ti in found if task_id in (None, ti["task_id"])]
        return sorted(wanted, key=lambda ti: (ti["task_id"], ti["map_index"]))

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Collection[str] | None = None,
        *,
        only_failed: bool = False,
    ) -> int:
        """
        Clear task instances of a run, all or those of some tasks, so that they run again.

        :return: How many were cleared.
        """
        body: Json = {
            "dry_run": False,
            "dag_run_id": run_id,
            "reset_dag_runs": True,
            "only_failed": only_failed,
        }
        if task_ids is not None:
            body["task_ids"] = list(task_ids)
        cleared = self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)
        return len(cleared["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return a task's log, one event a line."""
        content = self.request(
            "GET",
            f"{_run(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}",
            params={"map_index": map_index},
            headers={"Accept": "application/json"},
        )["content"]
        return "\n".join(_log_line(line) for line in content)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return a value that a task returned."""
        return self.request(
            "GET",
            f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}",
            params={"map_index": map_index, "deserialize": "false"},
        )["value"]

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
        Wait until a DAG run has ended.

        :param watch: Called before each question, for a progress display.
        :return: Its state, ``success`` or ``failed``.
        :raises AirflowApiError: at the time-out, naming the state of each task.
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
                    + ", ".join(map(_describe, self.task_instances(dag_id, run_id)))
                )
            time.sleep(every)

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str],
        *,
        map_index: int = -1,
        timeout: float = 120,
        every: float = 0.1,
    ) -> Json:
        """
        Wait until a task instance is in one of the given states.

        :return: The task instance.
        :raises AirflowApiError: at the time-out, or when it has ended in another state.
        """
        deadline = time.monotonic() + timeout
        while True:
            instances = self.task_instances(dag_id, run_id, task_id)
            instance = next((ti for ti in instances if ti["map_index"] == map_index), None)
            if instance is not None and instance["state"] in states:
                return instance
            ended = instance is not None and instance["state"] in TASK_ENDED
            if ended or time.monotonic() > deadline:
                now = _describe(instance) if instance else "not there"
                raise AirflowApiError(
                    f"Waited for {task_id} of {run_id} to be {' or '.join(states)}; it is {now}."
                )
            time.sleep(every)


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _content(answer: requests.Response) -> Any:
    if not answer.ok:
        raise AirflowApiError(
            f"Airflow answered {answer.status_code} to {answer.request.method} {answer.url}: {answer.text[:500]}"
        )
    return answer.json() if answer.content else None


def _describe(instance: Json) -> str:
    index = f"[{instance['map_index']}]" if instance["map_index"] >= 0 else ""
    return f"{instance['task_id']}{index} {instance['state']} (try {instance['try_number']})"


def _log_line(line: Any) -> str:
    if isinstance(line, str):
        return line
    details = "".join(
        f"\n{error.get('exc_type')}: {error.get('exc_value')}" for error in line.get("error_detail") or ()
    )
    return f"{line.get('timestamp', '')} {line.get('level', '')} {line['event']}{details}".strip()
