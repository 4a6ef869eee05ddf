"""M9: what the vendor has lost can be bought again, on purpose; what lies elsewhere is copied."""

from __future__ import annotations

import pytest

from tests.support.operator_bench import BUCKET, DESTINATION
from tests.support.vendor import ACCEPT_AND_LOSE

LEDGER = f"s3://{BUCKET}/_ledger"


@pytest.fixture
def landed(bench, vendor):
    vendor.separation_seconds = 0
    summary = bench.run(bench.separate())
    vendor.separation_seconds = None
    return summary


@pytest.fixture
def lost(bench, vendor, landed):
    """A lifecycle rule has deleted the stems, and the vendor has forgotten the task."""
    bench.delete("music/one/")
    vendor.forget()


@pytest.mark.usefixtures("lost")
class TestStemsThatAreLost:
    @pytest.mark.parametrize("arguments", [{}, {"if_landed": "replace"}, {"on_lost_submit": "resubmit"}])
    @pytest.mark.xfail(strict=True, reason="M9")
    def test_error_names_reopen_and_nothing_is_paid(self, bench, vendor, arguments):
        run = bench.another_run()

        with pytest.raises(Exception, match=r"vocalsep reopen s3://"):
            run.run(run.separate(**arguments))

        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_error_of_a_batch_names_reopen_and_nothing_is_paid(self, bench, vendor):
        run = bench.another_run()
        track = {"key": "one", "task_id": "t", "audio_id": "a"}

        with pytest.raises(Exception, match=r"vocalsep reopen s3://"):
            run.run(run.batch(tracks=[track]))

        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_next_run_after_reopen_buys_once(self, bench, vendor, vocalsep):
        answer = vocalsep("reopen", DESTINATION, "one", "--reason", "stems deleted, vendor forgot")
        assert answer.exit_code == 0, answer.output
        vendor.separation_seconds = 0

        for name in ("a run", "a later run"):
            run = bench.another_run(name)
            assert set(run.run(run.separate())["stems"]) == {"vocals", "instrumental"}

        assert vendor.charges == 2

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_reopen_is_in_the_history_with_its_reason(self, bench, vocalsep):
        vocalsep("reopen", DESTINATION, "one", "--reason", "stems deleted, vendor forgot")

        assert "stems deleted, vendor forgot" in (bench.entry().history[-1].message or "")

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_reopen_without_a_reason_is_refused(self, bench, vocalsep):
        events = bench.events()

        answer = vocalsep("reopen", DESTINATION, "one")

        assert "--reason" in answer.output
        assert bench.events() == events


class TestATaskThatFailedAfterItsStemsHadLanded:
    @pytest.mark.parametrize("code", [500, 531])
    @pytest.mark.xfail(strict=True, reason="M9")
    def test_error_names_reopen_and_promises_no_submit(self, bench, vendor, landed, code):
        bench.delete("music/one/")
        vendor.fail(code=code)
        run = bench.another_run()

        for _ in range(2):
            with pytest.raises(Exception, match="vocalsep reopen") as raised:
                run.run(run.separate())
            assert "submits it again" not in str(raised.value)

        assert vendor.charges == 1


class TestASecondDestination:
    @pytest.fixture(autouse=True)
    def first(self, bench, vendor):
        vendor.separation_seconds = 0
        summary = bench.run(bench.separate(ledger=LEDGER))
        vendor.separation_seconds = None
        vendor.forget()
        return summary

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_stems_are_copied_from_the_first_when_the_vendor_has_forgotten_them(self, bench, vendor, first):
        run = bench.another_run()

        second = run.run(run.separate(ledger=LEDGER, destination=f"s3://{BUCKET}/second"))

        assert second["manifest"].startswith(f"s3://{BUCKET}/second/")
        digests = [
            {stem.name: stem.sha256 for stem in bench.manifest(summary["manifest"]).stems}
            for summary in (first, second)
        ]
        assert digests[0] == digests[1]
        assert vendor.charges == 1

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_batch_copies_them_too(self, bench, vendor):
        run = bench.another_run()
        tracks = [{"key": "other name", "task_id": "t", "audio_id": "a"}]

        counts = run.run(run.batch(tracks=tracks, ledger=LEDGER, destination=f"s3://{BUCKET}/second"))

        assert (counts["landed"], vendor.charges) == (1, 1)


class TestDoubts:
    @pytest.fixture(autouse=True)
    def doubt(self, bench, vendor):
        vendor.fates = [ACCEPT_AND_LOSE]
        with pytest.raises(Exception, match="may have"):
            bench.run(bench.separate())

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_doubts_lists_track_run_time_and_the_ways_out(self, vocalsep):
        answer = vocalsep("doubts", DESTINATION)

        assert answer.exit_code == 0
        for said in ("one", "dag", "run", "2026-11-23", "reopen", "resubmit"):
            assert said in answer.output

    @pytest.mark.xfail(strict=True, reason="M9")
    def test_doubt_that_a_person_has_settled_by_reopen_is_submitted_by_the_next_run(
        self, bench, vendor, vocalsep
    ):
        vocalsep("reopen", DESTINATION, "one", "--reason", "not in the vendor's list")

        bench.deferral(bench.separate())

        assert vendor.charges == 2


class TestAudit:
    @pytest.mark.xfail(strict=True, reason="H5")
    def test_track_that_timed_out_has_a_message(self, bench, vocalsep):
        deferred = bench.deferral(bench.separate())
        with pytest.raises(Exception, match="deadline"):
            bench.finish(bench.separate(), deferred)

        answer = vocalsep("audit", DESTINATION, "--format", "csv")

        assert "deadline has passed" in answer.stdout

    @pytest.mark.xfail(strict=True, reason="H9")
    def test_table_takes_one_line_a_row_at_80_columns(self, bench, vocalsep):
        run = bench.another_run("scheduled__2026-11-23T00:00:00+00:00")
        run.deferral(run.batch("Artist/Album (Deluxe Edition)/01 First", "Artist/Album/02 Second"))

        lines = vocalsep("audit", DESTINATION).stdout.splitlines()

        for name in ("01 First", "02 Second"):
            assert sum(name in line for line in lines) == 1
        assert len(lines) <= 10
