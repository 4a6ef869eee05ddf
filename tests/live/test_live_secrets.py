"""Nothing that a run leaves for others to read (logs, database, bucket) contains a secret."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.storage.location import parse_s3_uri

CALLBACK_SECRET = "a-callback-secret-that-nobody-may-read-0123"
HMAC_KEY = "an-hmac-key-that-nobody-may-read-0123456789"
WRONG_KEY = "a-wrong-api-key-that-nobody-may-read-012345"


@pytest.fixture(scope="module")
def secrets(sandbox, seaweed):
    return {
        "the vendor's API key": sandbox.api_key,
        "a wrong API key": WRONG_KEY,
        "the callback secret": CALLBACK_SECRET,
        "the HMAC key": HMAC_KEY,
        "the object storage's key": seaweed.secret_key,
        "a signed address": "X-Amz-Signature",
    }


@pytest.fixture
def runs(airflow, sandbox, run_dag, destination):
    """Three runs: with callbacks, with an own file (its address is signed), and with a wrong API key."""
    vendor = sandbox_connection(sandbox, callback_base_url=airflow.url, callback_secret=CALLBACK_SECRET)
    wrong = {**vendor, "password": WRONG_KEY, "extra": {**vendor["extra"], "webhook_hmac_secret": HMAC_KEY}}
    airflow.api.put_connections({"vocalsep_callbacks": vendor, "vocalsep_wrong": wrong})
    row = sandbox.catalogue()[1]
    song = {name: row[name] for name in ("key", "title", "task_id", "audio_id", "duration")}
    landed = run_dag("called_back", {"track": song, "destination": destination})
    own = run_dag(
        "separate_track",
        {
            "key": "own",
            "audio_url": f"{destination}/{song['key']}/separate_vocal/vocals.mp3",
            "destination": f"{destination}/own",
            "poll_interval": 1,
        },
    )
    refused = run_dag(
        "called_back",
        {"track": song, "destination": f"{destination}/refused", "conn_id": "vocalsep_wrong"},
    )
    assert (landed.state, own.state, refused.state) == ("success", "success", "failed")
    return landed, own, refused


def read_leftovers(airflow, s3, destination):
    """Yield names and contents."""
    for path in airflow.home.rglob("*.log"):
        yield f"log {path.relative_to(airflow.home)}", path.read_bytes()
    with closing(sqlite3.connect(airflow.home / "airflow.db")) as database:
        for line in database.iterdump():
            yield "database", line.encode("utf-8", "surrogateescape")
    bucket, prefix = parse_s3_uri(destination)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for item in page["Contents"]:
            head = s3.get_object(Bucket=bucket, Key=item["Key"])
            yield f"s3://{bucket}/{item['Key']}", head["Body"].read() + repr(head["Metadata"]).encode()


def read_api(airflow, runs):
    for conn_id in ("vocalsep_callbacks", "vocalsep_wrong", "aws_default"):
        yield f"connection {conn_id}", repr(airflow.api.request("GET", f"connections/{conn_id}")).encode()
    yield "audit log", repr(airflow.api.request("GET", "eventLogs", params={"limit": 100})).encode()
    for run in runs:
        yield f"task instances of {run.dag_id}", repr(run.tasks()).encode()


def test_no_log_database_row_object_or_api_answer_contains_a_secret(airflow, s3, destination, runs, secrets):
    _, own, refused = runs
    left = list(read_leftovers(airflow, s3, destination))

    # The search covers the logs, the database and the bucket of these runs.
    assert any(name.startswith("log ") and own.run_id in name for name, _ in left)
    assert any(name == "database" and refused.run_id.encode() in content for name, content in left)
    assert any("/_vocalsep/ledger/" in name for name, _ in left)

    found = [
        f"{what} in {name}"
        for name, content in [*left, *read_api(airflow, runs)]
        for what, secret in secrets.items()
        if secret.encode() in content
    ]
    assert found == []
