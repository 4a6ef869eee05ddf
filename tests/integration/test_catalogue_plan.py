"""PlanCatalogueOperator cuts catalogues into chunks in a real bucket."""

from __future__ import annotations

import gzip
import json
import sqlite3
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.operators import catalogue as operators
from airflow_provider_vocalsep.operators.catalogue import PlanCatalogueOperator
from airflow_provider_vocalsep.storage.location import parse_s3_uri


@pytest.fixture
def plan(connect, destination, s3):
    connect()

    def run(catalogue=None, **arguments):
        ti = SimpleNamespace(dag_id="d", run_id="manual 1", task_id="plan", map_index=-1, try_number=1)
        operator = PlanCatalogueOperator(
            task_id="plan", catalogue=catalogue, destination=destination, **{"chunk_size": 2, **arguments}
        )
        return operator.execute({"ti": ti})

    return run


@pytest.fixture
def put(s3, destination):
    def put(name, body):
        bucket, prefix = parse_s3_uri(destination)
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)
        return f"{destination}/{name}"

    return put


@pytest.fixture
def get(s3):
    def get(uri):
        bucket, key = parse_s3_uri(uri)
        return [
            json.loads(line) for line in s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
        ]

    return get


CSV = b"key,task_id,audio_id\n" + b"".join(b"k%d,t,a%d\n" % (n, n) for n in range(5))
CSV_WITH_BAD_ROWS = CSV + b"bad,t,\n" + b"k0,other,a\n"


def keys(get, chunks):
    return [[row["key"] for row in get(chunk)] for chunk in chunks]


class TestPlanCatalogueOperator:
    def test_chunks_are_numbered_and_lie_beside_the_stems(self, plan, put, get, destination):
        chunks = plan(put("c.csv", CSV))

        assert keys(get, chunks) == [["k0", "k1"], ["k2", "k3"], ["k4"]]

        folder = f"{destination}/_vocalsep/runs/d/"
        assert all(chunk.startswith(folder) for chunk in chunks)
        assert chunks[2].endswith("/plan/tracks-000005-000005.jsonl")
        assert plan(put("c.csv", CSV)) == chunks

    def test_compressed_catalogue_is_read_from_s3_and_from_a_local_path(self, plan, put, get, tmp_path):
        (tmp_path / "c.csv.gz").write_bytes(gzip.compress(CSV))

        for catalogue in (
            put("c.csv.gz", gzip.compress(CSV)),
            str(tmp_path / "c.csv.gz"),
            f"file://{tmp_path}/c.csv.gz",
        ):
            assert keys(get, plan(catalogue, chunk_size=10)) == [["k0", "k1", "k2", "k3", "k4"]]

    def test_list_of_tracks_is_planned_and_an_empty_list_has_no_chunk(self, plan, get):
        assert keys(get, plan([{"key": "one", "task_id": "t", "audio_id": "a"}])) == [["one"]]
        assert plan([]) == []

    def test_rows_of_a_query_are_planned(self, plan, get, monkeypatch, tmp_path):
        def connect():
            connection = sqlite3.connect(":memory:")
            connection.executescript(
                "CREATE TABLE t (KEY, task_id, audio_id); INSERT INTO t VALUES (1, 't', 'a');"
            )
            return connection

        hook = SimpleNamespace(get_conn=connect)
        monkeypatch.setattr(operators.BaseHook, "get_hook", lambda conn_id: hook)

        assert keys(get, plan(sql="SELECT * FROM t", sql_conn_id="warehouse")) == [["1"]]

    def test_only_new_leaves_out_landed_tracks(self, plan, put, get):
        put("k1/separate_vocal/manifest.json", b"{}")
        put("k2/split_stem/manifest.json", b"{}")

        assert keys(get, plan(put("c.csv", CSV), only_new=True, chunk_size=9)) == [["k0", "k2", "k3", "k4"]]

    def test_too_many_chunks_fail_with_the_smallest_possible_chunk_size(self, plan, monkeypatch):
        monkeypatch.setattr(operators.conf, "getint", lambda *_, **__: 2)

        with pytest.raises(AirflowFailException, match="Set chunk_size to 3 or more"):
            plan([{"key": f"k{n}", "task_id": "t", "audio_id": "a"} for n in range(5)])

    def test_bad_rows_fail_the_plan_and_all_are_listed(self, plan, put, get, destination):
        with pytest.raises(
            AirflowFailException, match=r"(?s)2 of 7 rows.*line 7: .*line 8: .*All are in s3://"
        ) as e:
            plan(put("c.csv", CSV_WITH_BAD_ROWS))

        rejects = get(str(e.value).rsplit("All are in ", 1)[1].rstrip("."))
        assert [(row["line"], row["row"]["key"]) for row in rejects] == [(7, "bad"), (8, "k0")]

    def test_bad_rows_are_skipped_on_request(self, plan, put, get):
        assert len(sum(keys(get, plan(put("c.csv", CSV_WITH_BAD_ROWS), bad_rows="skip")), [])) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a catalogue or a sql query"),
        ({"sql": "SELECT 1"}, "sql_conn_id"),
        ({"catalogue": [], "bad_rows": "?"}, "bad_rows is"),
        ({"catalogue": [], "chunk_size": 0}, "chunk_size"),
        ({"catalogue": "/no/such/file.csv"}, "could not be read"),
        ({"catalogue": "s3://stems/no-such.csv"}, "could not be read"),
    ],
)
def test_invalid_argument_is_named(plan, arguments, message):
    with pytest.raises(AirflowFailException, match=message):
        plan(**arguments)
