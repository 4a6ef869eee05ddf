"""The ``airflow.cfg`` of a small, quick, private Airflow."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
from configparser import RawConfigParser
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.demo.secret import kept_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Who may log in; the password is made on the first start.
USER = "demo"

#: Seconds that one process waits for another's SQLite transaction before it gives up.
SQLITE_PATIENCE = 60


def write_settings(
    home: Path,
    *,
    dags_folders: Sequence[Path],
    port: int,
    parallelism: int,
    options: Mapping[str, Mapping[str, str]],
) -> str:
    """
    Write ``airflow.cfg`` and all it points to.

    The file makes ``AIRFLOW_HOME=… airflow …`` work from any shell while the stack runs.

    :param home: ``AIRFLOW_HOME``.
    :param dags_folders: Folders whose DAGs are loaded.
    :param port: Port of the API server.
    :param parallelism: Task processes at once.
    :param options: More settings, by section and name; they win.
    :return: The password of :data:`USER`.
    """
    home.mkdir(parents=True, exist_ok=True)
    password = kept_secret(home / "password", lambda: secrets.token_urlsafe(9))
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
    Make the SQLite file with a write-ahead log, in which readers do not wait for the one writer.

    :param home: ``AIRFLOW_HOME``.
    """
    with closing(sqlite3.connect(_database(home))) as database:
        database.execute("PRAGMA journal_mode=WAL")


def _database(home: Path) -> Path:
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
            "fernet_key": kept_secret(home / "fernet-key", _fernet_key),
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "test_connection": "Enabled",
        },
        "database": {
            "sql_alchemy_conn": f"sqlite:///{_database(home)}?timeout={SQLITE_PATIENCE}",
            "load_default_connections": "False",
        },
        "api": {
            "base_url": url,
            "host": LOOPBACK,
            "port": str(port),
            "workers": "1",
            "secret_key": kept_secret(home / "api-secret-key"),
        },
        "api_auth": {"jwt_secret": kept_secret(home / "jwt-secret", lambda: secrets.token_urlsafe(64))},
        # The default of a second is for installations that idle; here somebody watches.
        "scheduler": {"scheduler_idle_sleep_time": "0.3"},
        # A task's supervisor may notice its end this much later (Airflow 3.3.2, supervisor.py,
        # _monitor_subprocess). If a deferred task is resumed and queued within that time, the scheduler takes
        # the late report for a lost task and retries it; with the default of 5 s a quick sandbox gets there.
        "workers": {"min_heartbeat_interval": "1"},
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "refresh_interval": "5",
            "bundle_refresh_check_interval": "2",
            "min_file_process_interval": "10",
        },
    }


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
