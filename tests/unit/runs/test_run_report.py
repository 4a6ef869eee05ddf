from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.runs.report import BatchReport, ReportError, RowState, TrackRow

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
TRACKS = [Track(key=key, task_id="t", audio_id=key) for key in ("one", "two", "three")]


def report(**options) -> BatchReport:
    return BatchReport(
        [
            TrackRow(
                track="one", state=RowState.LANDED, submits=1, stems=2, bytes=10, manifest="s3://x/m.json"
            ),
            TrackRow(track="two", state=RowState.FAILED, submits=2, message="451: no", code=451, final=True),
            TrackRow(
                track="three", state=RowState.WAITING, vendor_task_id="T3", attempt_id="a3", submitted_at=NOW
            ),
        ],
        **options,
    )


def test_what_is_written_is_read_again():
    text = report(concluded=True).to_jsonl(dag_id="d", try_number=2)
    again = BatchReport.from_jsonl(text)

    assert list(again.rows.values()) == list(report().rows.values())
    assert again.concluded
    head = json.loads(text.splitlines()[0])
    assert (head["dag_id"], head["try_number"], head["landed"], head["submits"]) == ("d", 2, 1, 3)


def test_counts_are_what_the_rows_say():
    assert report().totals() == {
        "tracks": 3, "landed": 1, "failed": 1, "left": 0, "before": 0, "submits": 3, "stems": 2, "bytes": 10,
    }  # fmt: skip


def test_money_for_audio_under_two_names_is_counted_once():
    same = {"source": "t/one", "paid": 2, "credits": 10.0}
    rows = [
        TrackRow(track="one", submits=2, **same),
        TrackRow(track="other name", **same),
        TrackRow(track="two", submits=1),
    ]
    head = json.loads(BatchReport(rows).to_jsonl().splitlines()[0])
    assert (head["submits"], head["credits"]) == (3, 10)


def test_line_ends_of_other_alphabets_do_not_end_a_line():
    title = "one\u2028two\u0085three"
    text = BatchReport([TrackRow(track="one", title=title)]).to_jsonl()
    assert BatchReport.from_jsonl(text).rows["one"].title == title


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"not json", b'{"concluded": true}\n{"state": "landed"}', b"\xff"]
)
def test_what_is_no_report_is_refused_by_name(text):
    with pytest.raises(ReportError, match="s3://x/r.jsonl is not a run report"):
        BatchReport.from_jsonl(text, where="s3://x/r.jsonl")


class TestTheNextTry:
    def test_leaves_alone_what_failed_for_good_and_looks_at_all_else_again(self):
        rows = BatchReport.of(TRACKS, report()).rows

        assert [row.state for row in rows.values()] == [RowState.PLANNED, RowState.FAILED, RowState.PLANNED]
        assert rows["two"].message == "451: no"
        assert [row.submits for row in rows.values()] == [1, 2, 0]

    def test_of_a_batch_that_had_ended_looks_at_everything_again(self):
        rows = BatchReport.of(TRACKS, report(concluded=True)).rows.values()
        assert {row.state for row in rows} == {RowState.PLANNED}
        assert sum(row.submits for row in rows) == 0
