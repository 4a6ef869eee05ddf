"""Run reports: parsing those of other versions, and their objects in the bucket."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_provider_vocalsep.runs.listing import RunFile, list_run_files
from airflow_provider_vocalsep.runs.report import BatchReport, ReportError, RowState, TrackRow
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.storage.errors import NoBucketError
from airflow_provider_vocalsep.storage.location import Location
from tests.support.sample_bucket import KIND, LOCATION, NIGHTLY, SampleBucket

HEAD = {"dag_id": "d", "run_id": "r", "task_id": "t"}


@pytest.fixture
def sample(s3):
    return SampleBucket(s3)


@pytest.fixture
def report_file(sample):
    return ReportFile(sample.store, LOCATION, NIGHTLY, KIND)


def parse(*rows, **head):
    lines = [{**HEAD, **head}, *rows]
    return BatchReport.from_jsonl("\n".join(map(json.dumps, lines)).encode())


class TestBatchReport:
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
            b'{"dag_id": "d", "run_id": "r", "task_id": "t"}\n{"track": 5}',
        ],
    )
    def test_other_file_is_refused_with_its_address(self, body):
        with pytest.raises(ReportError, match="s3://x/y is not a run report"):
            BatchReport.from_jsonl(body, where="s3://x/y")

    def test_total_is_that_of_the_head_or_else_of_the_rows(self):
        rows = [{"track": "a", "submits": 2}, {"track": "b", "submits": 1}]

        assert parse(*rows, submits=7).total("submits") == 7
        assert parse(*rows).total("submits") == 3
        assert parse(*rows).total("credits") is None

    def test_state_of_a_newer_version_keeps_its_name(self):
        report = parse({"track": "a", "state": "landing"})

        assert report.rows["a"].state.value == "landing"
        assert not any(report.rows_in(state) for state in RowState)
        assert not report.is_understood

    def test_value_of_a_newer_version_is_left_out(self):
        report = parse({"track": "a", "stems": "two", "title": "A"})

        assert (report.rows["a"].stems, report.rows["a"].title) == (0, "A")
        assert not report.is_understood

    def test_field_of_a_newer_version_is_kept(self):
        report = parse({"track": "a", "lyrics": ["la"]})

        assert json.loads(report.rows["a"].to_json()) == {"track": "a", "lyrics": ["la"]}
        assert report.is_understood

    def test_head_of_another_version_is_kept(self):
        report = parse({"track": "a"}, separation_type="hum", concluded=True)

        assert report.concluded
        assert report.head["separation_type"] == "hum"


class TestReportFile:
    def test_written_report_is_read(self, report_file):
        report_file.write(BatchReport([TrackRow(track="a", state=RowState.LANDED)], concluded=True))

        report = report_file.read()

        assert report is not None
        assert report.concluded
        assert [row.track for row in report.rows_in(RowState.LANDED)] == ["a"]
        assert report.head["destination"] == LOCATION.uri

    def test_missing_report_is_none(self, report_file):
        assert report_file.read() is None

    @pytest.mark.parametrize(
        "body",
        [b"no report", json.dumps(HEAD).encode() + b'\n{"track": "a", "state": "landing"}\n'],
        ids=["not a report", "of a newer version"],
    )
    def test_report_that_is_not_understood_is_none_with_a_warning(self, report_file, sample, body, caplog):
        sample.put(report_file.key, body)

        with caplog.at_level(logging.WARNING):
            assert report_file.read() is None

        assert report_file.uri in caplog.text
        assert "reading the ledger instead" in caplog.text

    def test_missing_bucket_is_an_error(self, sample):
        elsewhere = Location("elsewhere", "music")

        with pytest.raises(NoBucketError):
            ReportFile(sample.store, elsewhere, NIGHTLY, KIND).read()


class TestListRunFiles:
    def test_plans_and_reports_are_listed_by_run(self, sample):
        plan = sample.plan([sample.track("a"), sample.track("b")], NIGHTLY)
        report = sample.report([TrackRow(track="a")], NIGHTLY)
        sample.report([TrackRow(track="c")], NIGHTLY.model_copy(update={"run_id": "another"}))
        sample.put(LOCATION.runs.key("stray.jsonl"), b"{}")

        files = {file.key: file for file in list_run_files(sample.store, LOCATION, "nightly/scheduled__1")}

        assert {key: file.planned for key, file in files.items()} == {plan: 2, report: None}
        assert {file.folder for file in files.values()} == {"nightly/scheduled__1"}
        assert all(isinstance(file, RunFile) and file.etag for file in files.values())
        assert len(list(list_run_files(sample.store, LOCATION))) == 3
