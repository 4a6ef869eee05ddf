from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.orm import Session

from airflow_provider_vocalsep.get_provider_info import get_provider_info
from airflow_provider_vocalsep.runs.listing import Destination
from airflow_provider_vocalsep.ui.destinations import find_sources


@pytest.fixture
def remember(database):
    """Write what Airflow keeps of a task instance's arguments."""
    path = database.url.database

    def remember(dag_id, run_id="r1", **fields):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "INSERT INTO rendered_task_instance_fields (dag_id, task_id, run_id, map_index, rendered_fields) "
                "VALUES (?, 'separate', ?, -1, ?)",
                (dag_id, run_id, json.dumps(fields)),
            )

    yield remember
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM rendered_task_instance_fields")


@pytest.fixture
def found(database):
    def found():
        with Session(database) as session:
            return {source.destination.uri: source for source in find_sources(session)}

    return found


OURS = {"vocalsep_conn_id": "vocalsep_default", "aws_conn_id": "aws_default"}


class TestDestinations:
    def test_are_those_that_our_operators_were_given(self, remember, found):
        remember("a", "manual__2026-11-23T12:00:00+00:00", destination="s3://stems/a/", ledger=None, **OURS)
        remember("a", "r2", destination="s3://stems/a", ledger="s3://books/ledger", **OURS)
        remember("b", destination="s3://other", only_new="False", aws_conn_id=None)
        remember("c", destination="s3://somebody/elses", aws_conn_id="aws_default")
        remember("d", destination=None, **OURS)
        remember("e", destination="https://x", **OURS)
        remember("f", destination="s3://", **OURS)

        sources = found()
        assert set(sources) == {"s3://stems/a", "s3://other"}
        of_a = sources["s3://stems/a"]
        assert of_a.aws_conn_id == "aws_default"
        assert of_a.ledgers == {Destination("stems", "a/_vocalsep/ledger"), Destination("books", "ledger")}
        assert sorted(of_a.names.values()) == [("a", "manual__2026-11-23T12:00:00+00:00"), ("a", "r2")]
        assert sources["s3://other"].aws_conn_id is None

    def test_are_those_of_the_configuration_too(self, found, monkeypatch):
        monkeypatch.setenv(
            "AIRFLOW__VOCALSEP__DESTINATIONS", " s3://archive/old , nonsense,\ns3://archive/new,"
        )
        monkeypatch.setenv("AIRFLOW__VOCALSEP__AWS_CONN_ID", "archive")

        sources = found()
        assert set(sources) == {"s3://archive/old", "s3://archive/new"}
        assert {source.aws_conn_id for source in sources.values()} == {"archive"}

    def test_are_none_without_either(self, found):
        assert found() == {}

    def test_the_options_are_declared(self):
        assert get_provider_info()["config"]["vocalsep"]["options"].keys() >= {"destinations", "aws_conn_id"}
