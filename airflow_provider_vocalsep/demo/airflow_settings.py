"""``airflow.cfg`` and database of an Airflow that one user runs on their own machine."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
from configparser import RawConfigParser
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.demo.secret import load_or_create_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: The only user; the password is generated on the first start.
USER = "demo"

#: Seconds that a process waits for another process's SQLite transaction before it fails.
SQLITE_TIMEOUT = 60


def write_settings(
    home: Path,
    *,
    dags_folders: Sequence[Path],
    port: int,
    parallelism: int,
    options: Mapping[str, Mapping[str, str]],
) -> str:
    """
    Write ``airflow.cfg`` and the secrets that it refers to, and return the password of :data:`USER`.

    With this file, ``AIRFLOW_HOME=… airflow …`` works from any shell while the stack runs.

    :param home: ``AIRFLOW_HOME``.
    :param port: Port of the API server.
    :param parallelism: Number of task processes that run at the same time.
    :param options: Further settings by section and name; they override the defaults.
    """
    home.mkdir(parents=True, exist_ok=True)
    password = load_or_create_secret(home / "password", lambda: secrets.token_urlsafe(9))
    (home / "passwords.json").write_text(json.dumps({USER: password}))
    (home / "passwords.json").chmod(0o600)
    config = RawConfigParser()
    config.read_dict(_defaults(home, dags_folders, port, parallelism))
    config.read_dict(options)
    path = home / "airflow.cfg"
    path.touch(mode=0o600)
    with path.open("w") as file:
        config.write(file)
    return password


def prepare_database(home: Path) -> None:
    """
    Create the SQLite file with a write-ahead log, so that readers do not wait for the writer.

    :param home: ``AIRFLOW_HOME``.
    """
    with closing(sqlite3.connect(_database_path(home))) as database:
        database.execute("PRAGMA journal_mode=WAL")


def _database_path(home: Path) -> Path:
    return home / "airflow.db"


def _defaults(
    home: Path, dags_folders: Sequence[Path], port: int, parallelism: int
) -> dict[str, dict[str, str]]:
    url = f"http://{LOOPBACK}:{port}"
    bundles = [
        {
            "name": f"{folder.parent.name}-{folder.name}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder.resolve())},
        }
        for folder in dags_folders
    ]
    return {
        "core": {
            "load_examples": "False",
            "dags_folder": str(dags_folders[0].resolve()),
            "executor": "LocalExecutor",
            "parallelism": str(parallelism),
            "dags_are_paused_at_creation": "False",
            "execution_api_server_url": f"{url}/execution/",
            "fernet_key": load_or_create_secret(home / "fernet-key", _generate_fernet_key),
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "test_connection": "Enabled",
        },
        "database": {
            "sql_alchemy_conn": f"sqlite:///{_database_path(home)}?timeout={SQLITE_TIMEOUT}",
            "load_default_connections": "False",
        },
        "api": {
            "base_url": url,
            "host": LOOPBACK,
            "port": str(port),
            "workers": "1",
            "secret_key": load_or_create_secret(home / "api-secret-key"),
        },
        "api_auth": {
            "jwt_secret": load_or_create_secret(home / "jwt-secret", lambda: secrets.token_urlsafe(64))
        },
        # Airflow's default of one second delays every step of a run that a user is watching.
        "scheduler": {"scheduler_idle_sleep_time": "0.3"},
        # The supervisor reports the end of a task process up to this many seconds late (Airflow 3.3.2,
        # supervisor.py, _monitor_subprocess). If a deferred task is resumed and queued before that, the
        # scheduler considers the task lost and retries it. With the default of 5 s, the sandbox is that fast.
        "workers": {"min_heartbeat_interval": "1"},
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "refresh_interval": "5",
            "bundle_refresh_check_interval": "2",
            "min_file_process_interval": "10",
        },
    }


def _generate_fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
