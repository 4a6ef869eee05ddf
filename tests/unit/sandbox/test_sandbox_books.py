from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager

import pytest
from sandbox_caller import Caller, wait_for

from airflow_provider_vocalsep.sandbox.books import Books
from airflow_provider_vocalsep.sandbox.server import running_sandbox

REQUEST = {
    "taskId": "t",
    "audioId": "a",
    "type": "separate_vocal",
    "callBackUrl": "https://callback.invalid/",
}


@pytest.fixture
def kept(tmp_path, stem_cache):
    """Start sandboxes on the same books, one after the other."""
    options = {
        "tiny_stems": True,
        "task_seconds": 0,
        "state_dir": tmp_path / "books",
        "cache_dir": stem_cache,
    }

    @contextmanager
    def start(**more):
        with running_sandbox(in_process=True, **{**options, **more}) as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                yield caller

    return start


class TestCredits:
    @pytest.mark.parametrize(
        ("fields", "price"),
        [
            ({"type": "separate_vocal"}, 10),
            ({"type": "split_stem"}, 50),
            ({"type": "split_stem_advanced", "stemName": "Kick"}, 20),
        ],
        ids=["two stems", "twelve stems", "one pair"],
    )
    def test_accepted_submit_is_charged_by_its_type(self, vendor, fields, price):
        vendor.accepted(**fields)

        totals = vendor.sandbox.totals()

        assert (totals["credits"], totals["credits_charged"], totals["charges"]) == (10_000 - price, price, 1)

    def test_submit_without_credits_is_refused_with_the_dialects_code(self, calling, dialect):
        caller = calling(dialect=dialect, credits=15)
        caller.accepted()

        answer = caller.submit()

        assert answer.status_code == 200
        assert answer.json()["code"] == {"sunoapi": 429, "kie": 402}[dialect]
        totals = caller.sandbox.totals()
        assert (totals["credits"], totals["charges"]) == (5, 1)
        assert totals["refusals"] == {str(answer.json()["code"]): 1}

    @pytest.mark.parametrize(
        ("refund", "balance"), [(True, 10_000), (False, 9_990)], ids=["given back", "kept"]
    )
    def test_failed_task_is_refunded_only_on_demand(self, vendor, refund, balance):
        vendor.sandbox.set_fault("task", "fail", refund=refund)
        vendor.separated()

        totals = vendor.sandbox.totals()

        assert (totals["credits"], totals["refunds"]) == (balance, int(refund))

    def test_code_531_refunds_the_credits(self, calling):
        caller = calling(dialect="kie")
        caller.sandbox.set_fault("task", "fail", code=531)

        caller.separated()

        assert caller.sandbox.totals()["credits_refunded"] == 10

    def test_concurrent_submits_never_overdraw_the_balance(self):
        books = Books(None, credits=100)
        accepted = []
        threads = [
            threading.Thread(target=lambda: accepted.append(books.accept(REQUEST, 10))) for _ in range(30)
        ]
        for thread in threads:
            thread.start()

        for thread in threads:
            thread.join()

        assert sum(task is not None for task in accepted) == 10
        assert books.credits == 0
        books.close()


class TestSubmitRate:
    def test_submits_above_the_rate_are_refused_until_the_window_ends(self, calling, dialect):
        caller = calling(dialect=dialect, submit_rate="3/0.5s")
        codes = [caller.submit().json()["code"] for _ in range(5)]

        refused = {"sunoapi": 430, "kie": 429}[dialect]

        assert codes == [200, 200, 200, refused, refused]
        wait_for(lambda: caller.submit().json()["code"] == 200)
        assert caller.sandbox.totals()["charges"] == 4

    def test_status_reads_are_not_limited(self, calling):
        caller = calling(submit_rate="1/60s")

        vendor_task_id = caller.accepted()

        assert caller.finished(vendor_task_id)
        assert all(caller.record(vendor_task_id) for _ in range(10))


class TestBooks:
    def test_report_has_a_row_per_task_with_its_stems_and_callbacks(self, vendor):
        data = vendor.separated()
        vendor.get(data["response"]["vocalUrl"])

        (row,) = vendor.sandbox.books()["tasks"]

        assert row["vendor_task_id"] == data["taskId"]
        assert (row["task_id"], row["audio_id"]) == (vendor.song["task_id"], vendor.song["audio_id"])
        assert (row["type"], row["status"], row["charged"], row["refunded"]) == (
            "separate_vocal",
            "SUCCESS",
            10,
            0,
        )
        assert row["polls"] >= 1
        assert {stem["name"]: stem["downloads"] for stem in row["stems"]} == {"instrumental": 0, "vocals": 1}
        (callback,) = row["callbacks"]
        assert (callback["outcome"], callback["attempt"]) == ("not attempted", 0)

    def test_report_sums_the_charges_of_each_track(self, vendor):
        vendor.accepted()
        vendor.accepted(type="split_stem")
        vendor.separated(audioUrl=vendor.song["audio_url"] + "?signature=secret")

        tracks = vendor.sandbox.books()["tracks"]

        assert set(tracks) == {
            f"{vendor.song['task_id']}/{vendor.song['audio_id']}",
            vendor.song["audio_url"],
        }
        assert tracks[f"{vendor.song['task_id']}/{vendor.song['audio_id']}"]["submits"] == 2
        assert tracks[f"{vendor.song['task_id']}/{vendor.song['audio_id']}"]["charged"] == 60

    def test_report_and_totals_agree(self, vendor):
        vendor.separated()

        books, totals = vendor.sandbox.books(), vendor.sandbox.totals()

        assert {name: value for name, value in books.items() if name not in ("tracks", "tasks")} == totals
        assert totals["submits"] == totals["charges"] == 1
        assert totals["polls"] == books["tasks"][0]["polls"]

    def test_books_survive_a_restart(self, kept):
        with kept() as caller:
            data = caller.separated()
        with kept() as caller:
            assert caller.sandbox.totals()["credits"] == 9_990
            record = caller.record(data["taskId"])
            assert record["successFlag"] == "SUCCESS"
            assert caller.get(record["response"]["vocalUrl"]).status_code == 200

    def test_restart_continues_pending_tasks(self, kept):
        with kept(task_seconds=600) as caller:
            vendor_task_id = caller.accepted()
        with kept() as caller:
            assert caller.finished(vendor_task_id)["successFlag"] == "SUCCESS"
            assert caller.sandbox.totals()["charges"] == 1

    def test_submit_that_cannot_be_recorded_is_not_charged(self):
        books = Books(None, credits=100)

        with pytest.raises(KeyError, match="callBackUrl"):
            books.accept({"type": "separate_vocal"}, 10)
        assert books.credits == 100
        assert books.accept(REQUEST, 10)
        books.close()


class TestStemCache:
    def test_second_task_of_a_song_is_not_separated_again(self, calling, tmp_path):
        caller = calling(cache_dir=tmp_path)

        first, second = caller.separated(), caller.separated()

        assert caller.sandbox.totals()["separations"] == 1
        contents = [caller.get(data["response"]["vocalUrl"]).content for data in (first, second)]
        assert contents[0] == contents[1]
        assert first["response"]["vocalUrl"] != second["response"]["vocalUrl"]

    def test_each_type_and_stem_name_is_separated(self, calling, tmp_path):
        caller = calling(cache_dir=tmp_path)

        for fields in (
            {},
            {"type": "split_stem"},
            *({"type": "split_stem_advanced", "stemName": n} for n in "ab"),
        ):
            caller.separated(**fields)

        assert caller.sandbox.totals()["separations"] == 4

    def test_links_to_a_deleted_cache_return_404(self, calling, tmp_path):
        caller = calling(cache_dir=tmp_path / "cache")
        url = caller.separated()["response"]["vocalUrl"]

        shutil.rmtree(tmp_path / "cache")

        assert caller.get(url).status_code == 404
