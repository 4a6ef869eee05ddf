from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.orm import Session

from airflow_provider_vocalsep.get_provider_info import get_provider_info
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.ui.destinations import find_destinations


@pytest.fixture
def remember(database):
    """Write the arguments of a task instance as Airflow stores them."""
    path = database.url.database

    def remember(dag_id, run_id="r1", **fields):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "INSERT INTO rendered_task_instance_fields "
                "(dag_id, task_id, run_id, map_index, rendered_fields) "
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
            return {destination.uri: destination for destination in find_destinations(session)}

    return found


OURS = {"vocalsep_conn_id": "vocalsep_default", "aws_conn_id": "aws_default"}


class TestFindDestinations:
    def test_destinations_of_our_operators_are_found(self, remember, found):
        remember("a", "manual__2026-11-23T12:00:00+00:00", destination="s3://stems/a/", ledger=None, **OURS)
        remember("a", "r2", destination="s3://stems/a", ledger="s3://books/ledger", **OURS)
        remember("b", destination="s3://other", only_new="False", aws_conn_id=None)
        remember("c", destination="s3://somebody/elses", aws_conn_id="aws_default")
        remember("d", destination=None, **OURS)
        remember("e", destination="https://x", **OURS)
        remember("f", destination="s3://", **OURS)

        destinations = found()

        assert set(destinations) == {"s3://stems/a", "s3://other"}
        first = destinations["s3://stems/a"]
        assert first.aws_conn_id == "aws_default"
        assert first.ledgers == {Location("stems", "a/_vocalsep/ledger"), Location("books", "ledger")}
        assert sorted(first.names.values()) == [("a", "manual__2026-11-23T12:00:00+00:00"), ("a", "r2")]
        assert destinations["s3://other"].aws_conn_id is None

    def test_configured_destinations_are_found(self, found, monkeypatch):
        monkeypatch.setenv(
            "AIRFLOW__VOCALSEP__DESTINATIONS", " s3://archive/old , nonsense,\ns3://archive/new,"
        )
        monkeypatch.setenv("AIRFLOW__VOCALSEP__AWS_CONN_ID", "archive")

        destinations = found()

        assert set(destinations) == {"s3://archive/old", "s3://archive/new"}
        assert {destination.aws_conn_id for destination in destinations.values()} == {"archive"}

    def test_there_are_none_by_default(self, found):
        assert found() == {}

    def test_options_are_declared_in_the_provider_info(self):
        assert get_provider_info()["config"]["vocalsep"]["options"].keys() >= {"destinations", "aws_conn_id"}
