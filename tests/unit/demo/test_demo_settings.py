from __future__ import annotations

import sqlite3
from configparser import RawConfigParser
from contextlib import closing

import pytest

from airflow_provider_vocalsep.demo.airflow_settings import prepare_database, write_settings
from airflow_provider_vocalsep.demo.secret import load_or_create_secret


def read_settings(home) -> RawConfigParser:
    config = RawConfigParser()
    config.read(home / "airflow.cfg")
    return config


@pytest.fixture
def write(tmp_path):
    def _write(port=8080, **options):
        return write_settings(
            tmp_path, dags_folders=[tmp_path / "dags"], port=port, parallelism=4, options=options
        )

    return _write


class TestLoadOrCreateSecret:
    def test_secret_is_generated_once_and_readable_only_by_its_owner(self, tmp_path):
        path = tmp_path / "deep" / "key"

        first, second = load_or_create_secret(path), load_or_create_secret(path)

        assert len(first) > 20
        assert second == first
        assert path.stat().st_mode & 0o777 == 0o600


class TestWriteSettings:
    def test_second_call_keeps_the_secrets_and_changes_the_port(self, tmp_path, write):
        first_password = write(port=8080)
        first = read_settings(tmp_path)
        second_password = write(port=9090)
        second = read_settings(tmp_path)

        assert first_password == second_password
        assert first["core"]["fernet_key"] == second["core"]["fernet_key"]
        assert first["api_auth"]["jwt_secret"] == second["api_auth"]["jwt_secret"]
        assert second["api"]["base_url"] == "http://127.0.0.1:9090"
        assert second["core"]["execution_api_server_url"] == "http://127.0.0.1:9090/execution/"

    def test_options_override_the_defaults(self, tmp_path, write):
        write(core={"parallelism": "1"}, vocalsep={"answer": "42"})

        settings = read_settings(tmp_path)
        assert settings["core"]["parallelism"] == "1"
        assert settings["core"]["load_examples"] == "False"
        assert settings["vocalsep"]["answer"] == "42"

    def test_only_the_owner_can_read_the_files(self, tmp_path, write):
        write()

        for name in ("airflow.cfg", "passwords.json", "fernet-key"):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0, name


class TestPrepareDatabase:
    def test_database_has_a_write_ahead_log(self, tmp_path):
        prepare_database(tmp_path)

        with closing(sqlite3.connect(tmp_path / "airflow.db")) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
