"""``vocalsep show``: everything about one track."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.audit.entries import Archive
from tests.support.sample_bucket import BUCKET, BY_HAND, DESTINATION, manifest_key


@pytest.fixture
def twice(sample):
    """A track that failed in one run, had its callback, and landed in the next run."""
    sample.fail("disc 1/daisy", title="Daisy Bell")
    sample.call_back("disc 1/daisy", count=2)
    sample.land("disc 1/daisy", BY_HAND, title="Daisy Bell")
    sample.land("other")
    return sample


def parse(answer):
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


class TestShow:
    def test_table_has_history_cost_and_stems(self, vocalsep, twice):
        answer = vocalsep("show", DESTINATION, "disc 1/daisy")

        assert answer.exit_code == 0
        output = answer.stdout
        assert "disc 1/daisy (Daisy Bell): separate_vocal, landed" in output
        assert "2 submits, 20 credits" in output
        first = ["about to submit", "submitted", "vendor failed", "vendor called back ×2"]
        steps = [*first, "about to submit", "submitted", "separated", "landed"]
        lines = [line for line in output.splitlines() if "2026-11-23 12:" in line and "│" in line]
        assert len(lines) == len(steps)
        assert all(step in line for step, line in zip(steps, lines, strict=True))
        assert "album/manual__2/separate try 1, ann" in output
        assert "code 451; GENERATE_AUDIO_FAILED; vendor task task-attempt-1; no audio there" in output
        assert f"s3://{BUCKET}/{manifest_key('disc 1/daisy')}" in output
        assert "other" not in output

    def test_track_is_found_by_the_id_of_any_of_its_vendor_tasks(self, vocalsep, twice):
        for vendor_task_id in ("task-attempt-1", "task-attempt-2"):
            found = parse(vocalsep("show", DESTINATION, vendor_task_id, "--format", "json"))

            assert [entry["track_key"] for entry in found["entries"]] == ["disc 1/daisy"]
            assert [manifest["track"]["key"] for manifest in found["manifests"]] == ["disc 1/daisy"]

    def test_json_is_that_of_the_bucket(self, vocalsep, twice):
        found = parse(vocalsep("show", DESTINATION, "other", "--format", "json"))

        (entry,) = found["entries"]
        assert entry.pop("uri") == f"s3://{BUCKET}/{twice.entry_key('other')}"
        assert entry == twice.json(twice.entry_key("other"))
        assert found["manifests"] == [twice.json(manifest_key("other"))]

    def test_track_with_a_manifest_or_report_is_found_without_reading_the_whole_ledger(
        self, vocalsep, twice, monkeypatch
    ):
        def read_all(self, on_read):
            raise AssertionError("the whole ledger was read")

        twice.report([twice.fail("no manifest")])
        monkeypatch.setattr(Archive, "entries", read_all)

        for key in ("other", "no manifest"):
            assert len(parse(vocalsep("show", DESTINATION, key, "--format", "json"))["entries"]) == 1

    def test_track_whose_manifest_is_gone_is_still_shown(self, vocalsep, twice):
        twice.delete(manifest_key("other"))

        answer = vocalsep("show", DESTINATION, "other")

        assert answer.exit_code == 0
        assert "other: separate_vocal, landed" in answer.stdout
        assert f"s3://{BUCKET}/{manifest_key('other')} no longer exists" in answer.stderr

    def test_unknown_track_is_an_error_that_suggests_a_search(self, vocalsep, twice):
        answer = vocalsep("show", DESTINATION, "daisy")

        assert answer.exit_code == 2
        assert "There is no track 'daisy'" in answer.stderr
        assert f"`vocalsep audit {DESTINATION} --track 'daisy*'`" in answer.stderr
