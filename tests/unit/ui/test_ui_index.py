from __future__ import annotations

import json
import logging
import shutil
import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_vocalsep.runs.listing import RunFile
from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow
from airflow_provider_vocalsep.ui.index import RunIndex
from airflow_provider_vocalsep.ui.refresh import Refresher, try_lock
from airflow_provider_vocalsep.ui.search import RunSearch
from tests.support.sample_bucket import DESTINATION, LOCATION, OPEN


@pytest.fixture
def refresh(index, store):
    def refresh(folder="", names=None):
        Refresher(index, LOCATION, lambda: store).refresh(names or {}, folder)

    return refresh


@pytest.fixture
def search(index):
    return RunSearch(index)


def file(key="k", etag="1", modified=1.0):
    return RunFile(key, etag, modified, "d/r")


def report(*tracks, run_id="r", **head):
    rows = [{"track": track} if isinstance(track, str) else track for track in tracks]
    lines = [{"dag_id": "d", "run_id": run_id, "task_id": "t", "map_index": -1, **head}, *rows]
    return BatchReport.from_jsonl("\n".join(map(json.dumps, lines)).encode())


def task_of(**changes):
    return OPEN.model_copy(update=changes)


class TestRefresher:
    def test_only_changed_reports_are_read(self, sample, refresh, s3):
        tasks = [task_of(map_index=n) for n in range(5)]
        for task in tasks:
            sample.report([TrackRow(track=str(task.map_index))], task)
        refresh()
        sample.report([TrackRow(track="new")], tasks[2])
        read = []
        s3.meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: read.append(params["url_path"])
        )

        refresh()
        refresh()

        assert [path.rsplit("/", 1)[-1] for path in read] == ["00002.jsonl"]

    def test_refresh_of_one_run_keeps_the_others(self, sample, refresh, index):
        first = sample.report([TrackRow(track="a")], task_of(run_id="one"))
        second = sample.report([TrackRow(track="b")], task_of(run_id="two"))

        refresh("open/one")
        assert list(index.known(DESTINATION)) == [first]

        refresh()
        refresh("open/one")
        assert set(index.known(DESTINATION)) == {first, second}

    def test_objects_that_are_not_reports_are_left_out_with_a_warning(self, sample, refresh, index, caplog):
        sample.put(LOCATION.runs.key("d/r/t/00000.jsonl"), b"no report")
        sample.put(LOCATION.runs.key("d/r/plan/rejects.jsonl"), b"{}")
        sample.put(LOCATION.runs.key("stray.jsonl"), b"{}")

        with caplog.at_level(logging.WARNING):
            refresh()

        assert index.known(DESTINATION) == {}
        assert "d/r/t/00000.jsonl is not a run report" in caplog.text

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                ClientError({"Error": {"Code": "AccessDenied"}}, "x"),
                "the store refuses it (AccessDenied: AccessDenied). The AWS connection of the",
            ),
            (
                ClientError({"Error": {"Code": "SlowDown"}}, "x"),
                "the store answered SlowDown (SlowDown). The page tries again by itself.",
            ),
            (
                EndpointConnectionError(endpoint_url="http://x"),
                'Could not connect to the endpoint URL: "http://x" The page tries again by itself.',
            ),
        ],
    )
    def test_problem_of_a_bucket_is_kept_until_the_next_success(
        self, refresh, index, s3, monkeypatch, error, message
    ):
        def fail(*_):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(s3, "get_paginator", fail)
            refresh()
        problem = index.status(DESTINATION)["problem"]
        refresh()

        assert problem.startswith(f"Could not list {DESTINATION}/_vocalsep/runs/: ")
        assert message in problem
        assert index.status(DESTINATION)["problem"] is None


class TestTryLock:
    def test_only_one_process_has_the_lock(self, tmp_path):
        with try_lock(tmp_path / "lock") as first, try_lock(tmp_path / "lock") as second:
            assert (first, second) == (True, False)

        with try_lock(tmp_path / "lock") as again:
            assert again


class TestRunIndex:
    def test_corrupt_file_is_recreated(self, tmp_path):
        path = tmp_path / "runs.sqlite"
        path.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 50)

        index = RunIndex(path)
        index.put_reports("s", [(file(), report("a"))])

        assert list(index.known("s")) == ["k"]
        assert path.stat().st_mode & 0o077 == 0

    def test_deleted_file_is_filled_again(self, index, sample, refresh):
        sample.report([TrackRow(track="a")], OPEN)
        refresh()

        shutil.rmtree(index.path.parent)
        assert RunSearch(index).dag_ids() == set()
        assert index.status(DESTINATION)["listed_at"] == 0

        refresh()
        assert RunSearch(index).dag_ids() == {"open"}

    def test_threads_write_and_read_at_the_same_time(self, tmp_path, search):
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

    def test_newer_report_replaces_the_older(self, index, search):
        index.put_reports("s", [(file(), report("a", "b", "c"))])
        index.put_reports("s", [(file(etag="2"), report({"track": "a", "state": "landed"}))])

        found = search.tracks({"d"}, "r")

        assert [(row["track"], row["state"]) for row in found.rows] == [("a", "landed")]

    def test_states_of_a_newer_version_count_as_waiting(self, index, search):
        states = ["in_doubt", "landing", "waiting"]
        rows = [{"track": str(n), "state": state} for n, state in enumerate(states)]

        index.put_reports("s", [(file(), report(*rows))])

        assert search.run("d", "r")["waiting"] == 3
        found = search.tracks({"d"}, "r", state="waiting")
        assert (found.total, {row["row_state"] for row in found.rows}) == (3, set(states))

    def test_fields_of_a_newer_version_are_kept(self, index, search):
        index.put_reports("s", [(file(), report({"track": "a", "lyrics": ["la"], "stems": "two"}))])

        row = search.track("d", "r", "t", -1, "a")

        assert (row["lyrics"], row.get("stems")) == (["la"], None)


class TestRunSearch:
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

    def test_counts_of_states_are_of_all_tracks_that_match_the_text(self, search):
        found = search.tracks({"d"}, "r", text="TITLE 24", state="failed")

        assert found.states == {"landed": 6, "failed": 5}
        assert found.total == len(found.rows) == 5

    def test_page_behind_the_end_still_has_the_total(self, search):
        assert search.runs({"d"}, offset=50) == ([], 1)

    def test_runs_are_found_by_part_of_their_name(self, search, index):
        index.put_reports("s", [(file("k2"), report("x", run_id="Manual__7"))])

        assert [run["run_id"] for run in search.runs({"d"}, text="mANUAL")[0]] == ["Manual__7"]
        assert search.runs(set())[1] == 0
