from __future__ import annotations

import logging
import shutil
import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from ui_world import asker

from airflow_provider_vocalsep.runs.listing import RunFile, RunReport
from airflow_provider_vocalsep.runs.report import ReportError, TrackRow
from airflow_provider_vocalsep.ui.index import RunIndex
from airflow_provider_vocalsep.ui.refresh import Refresher, only_one
from airflow_provider_vocalsep.ui.search import RunSearch


@pytest.fixture
def refresh(index, bucket, client):
    def refresh(folder="", names=None, clients=lambda: client):
        Refresher(index, bucket.destination, clients).refresh(names or {}, folder)

    return refresh


@pytest.fixture
def search(index):
    return RunSearch(index)


def file(key="k", etag="1", modified=1.0):
    return RunFile(key, etag, modified, "d/r")


def report(*tracks, run_id="r", **head):
    rows = [{"track": track} if isinstance(track, str) else track for track in tracks]
    return RunReport({"dag_id": "d", "run_id": run_id, "task_id": "t", "map_index": -1, **head}, rows)


class TestRefreshing:
    def test_reads_only_what_changed(self, bucket, refresh, client):
        who = [asker(map_index=n) for n in range(5)]
        for one in who:
            bucket.report(one, [TrackRow(track=str(one.map_index))])
        refresh()
        bucket.report(who[2], [TrackRow(track="new")])

        read = []
        client.meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: read.append(params["url_path"])
        )
        refresh()
        assert [path.rsplit("/", 1)[-1] for path in read] == ["00002.jsonl"]
        refresh()
        assert len(read) == 1

    def test_of_one_run_leaves_the_others_alone(self, bucket, refresh, index):
        bucket.report(asker(run_id="one"), [TrackRow(track="a")])
        bucket.report(asker(run_id="two"), [TrackRow(track="b")])
        refresh("open/one")
        assert list(index.known(bucket.uri)) == [bucket.report_key(asker(run_id="one"))]
        refresh()
        refresh("open/one")
        assert len(index.known(bucket.uri)) == 2

    def test_leaves_out_what_is_no_report_and_says_so(self, bucket, refresh, index, caplog):
        bucket.put(f"{bucket.destination.runs}d/r/t/00000.jsonl", b"no report")
        bucket.put(f"{bucket.destination.runs}d/r/plan/rejects.jsonl", b"{}")
        bucket.put(f"{bucket.destination.runs}stray.jsonl", b"{}")
        with caplog.at_level(logging.WARNING):
            refresh()
        assert index.known(bucket.uri) == {}
        assert "d/r/t/00000.jsonl is not a run report" in caplog.text

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                ClientError({"Error": {"Code": "AccessDenied"}}, "x"),
                "its AWS connection may not read it (AccessDenied)",
            ),
            (ClientError({"Error": {"Code": "SlowDown"}}, "x"), "the object storage answers SlowDown"),
            (
                EndpointConnectionError(endpoint_url="http://x"),
                "the object storage does not answer (EndpointConnectionError)",
            ),
        ],
    )
    def test_keeps_what_is_wrong_with_a_bucket_until_it_is_well(self, refresh, index, bucket, error, words):
        def away():
            raise error

        refresh(clients=away)
        assert index.status(bucket.uri)["trouble"] == words
        refresh()
        assert index.status(bucket.uri)["trouble"] is None

    def test_one_process_does_it_at_a_time(self, tmp_path):
        with only_one(tmp_path / "lock") as first, only_one(tmp_path / "lock") as second:
            assert (first, second) == (True, False)
        with only_one(tmp_path / "lock") as again:
            assert again


class TestIndex:
    def test_that_is_broken_is_made_anew(self, tmp_path):
        path = tmp_path / "runs.sqlite"
        path.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 50)
        index = RunIndex(path)
        index.put_reports("s", [(file(), report("a"))])
        assert list(index.known("s")) == ["k"]
        assert path.stat().st_mode & 0o077 == 0

    def test_that_is_tidied_away_is_filled_anew(self, index, bucket, refresh):
        bucket.report(asker(), [TrackRow(track="a")])
        refresh()
        shutil.rmtree(index.path.parent)
        assert RunSearch(index).dag_ids() == set()
        assert index.status(bucket.uri)["listed_at"] == 0
        refresh()
        assert RunSearch(index).dag_ids() == {"open"}

    def test_processes_write_and_read_at_once(self, tmp_path, search):
        path = tmp_path / "runs.sqlite"
        failures = []

        def work(n):
            try:
                index = RunIndex(path)
                for turn in range(10):
                    index.put_reports(f"s{n}", [(file(f"k{turn}"), report("a", "b", run_id=f"r{n}"))])
                    RunSearch(index).runs({"d"})
            except Exception as e:
                failures.append(e)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        runs, total = search.runs({"d"})
        assert total == 6
        assert {run["tracks"] for run in runs} == {20}

    def test_a_newer_report_takes_the_place_of_the_older(self, index, search):
        index.put_reports("s", [(file(), report("a", "b", "c"))])
        index.put_reports("s", [(file(etag="2"), report({"track": "a", "state": "landed"}))])
        found = search.tracks({"d"}, "r")
        assert [(row["track"], row["state"]) for row in found.rows] == [("a", "landed")]

    def test_states_that_a_newer_version_invents_count_as_waiting(self, index, search):
        rows = [
            {"track": str(n), "state": state} for n, state in enumerate(["in_doubt", "landing", "waiting"])
        ]
        index.put_reports("s", [(file(), report(*rows))])
        assert search.run("d", "r")["waiting"] == 3
        found = search.tracks({"d"}, "r", state="waiting")
        assert (found.total, {row["row_state"] for row in found.rows}) == (
            3,
            {"in_doubt", "landing", "waiting"},
        )


class TestSearch:
    @pytest.fixture(autouse=True)
    def tracks(self, index):
        rows = [
            {"track": f"t{n:03}", "title": f"Title {n}", "state": ["landed", "failed"][n % 2]}
            for n in range(250)
        ]
        index.put_reports("s", [(file(), report(*rows))])

    def test_pages_follow_each_other(self, search):
        pages = [search.tracks({"d"}, "r", limit=100, offset=offset) for offset in (0, 100, 200, 300)]
        assert [len(page.rows) for page in pages] == [100, 100, 50, 0]
        assert {page.total for page in pages} == {250}
        assert [row["track"] for page in pages for row in page.rows] == [f"t{n:03}" for n in range(250)]

    def test_counts_of_states_are_of_all_that_match_the_text(self, search):
        found = search.tracks({"d"}, "r", text="TITLE 24", state="failed")
        assert found.states == {"landed": 6, "failed": 5}
        assert found.total == len(found.rows) == 5

    def test_a_page_of_runs_behind_the_end_still_knows_how_many_there_are(self, search):
        assert search.runs({"d"}, offset=50) == ([], 1)

    def test_runs_are_found_by_part_of_their_name(self, search, index):
        index.put_reports("s", [(file("k2"), report("x", run_id="Manual__7"))])
        assert [run["run_id"] for run in search.runs({"d"}, text="mANUAL")[0]] == ["Manual__7"]
        assert search.runs(set())[1] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"dag_id": 1, "run_id": "r", "task_id": "t"}',
        b'{"dag_id": "d", "run_id": "r", "task_id": "t"}\n[]',
        b'{"dag_id": "d", "run_id": "r", "task_id": "t"}\n{"state": "landed"}',
    ],
)
def test_what_is_no_report_is_refused_by_name(body):
    with pytest.raises(ReportError, match="s3://x/y is not a run report"):
        RunReport.parse(body, "s3://x/y")


def test_totals_are_the_heads_or_else_the_rows():
    rows = [{"track": "a", "submits": 2}, {"track": "b", "submits": 1}]
    assert RunReport({"submits": 7}, rows).sum("submits") == 7
    assert RunReport({}, rows).sum("submits") == 3
    assert RunReport({}, rows).sum("credits") is None
