"""``vocalsep show``: everything about one track."""

from __future__ import annotations

import json

import pytest
from audit_world import BUCKET, BY_HAND, DESTINATION, manifest_key

from airflow_provider_vocalsep.audit.entries import Archive


@pytest.fixture
def twice(world):
    """A track that failed in one run, was called back about, and landed in the next."""
    world.fail("disc 1/daisy", title="Daisy Bell")
    world.call_back("disc 1/daisy", count=2)
    world.land("disc 1/daisy", BY_HAND, title="Daisy Bell")
    world.land("other")
    return world


def told(answer):
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


class TestATrack:
    def test_is_shown_with_its_history_its_cost_and_its_stems(self, vocalsep, twice):
        answer = vocalsep("show", DESTINATION, "disc 1/daisy")
        assert answer.exit_code == 0
        said = answer.stdout
        assert "disc 1/daisy (Daisy Bell): separate_vocal, landed" in said
        assert "2 submits, 20 credits" in said
        steps = [
            "about to submit", "submitted", "vendor failed", "vendor called back ×2", "about to submit", "submitted",
            "separated", "landed",
        ]  # fmt: skip
        lines = [line for line in said.splitlines() if "2026-11-23 12:" in line and "│" in line]
        assert len(lines) == len(steps)
        assert all(step in line for step, line in zip(steps, lines, strict=True))
        assert "album/manual__2/separate try 1, ann" in said
        assert "code 451; GENERATE_AUDIO_FAILED; vendor task task-attempt-1; no audio there" in said
        assert f"s3://{BUCKET}/{manifest_key('disc 1/daisy')}" in said
        assert "other" not in said

    def test_is_found_by_the_id_of_any_of_its_vendor_tasks(self, vocalsep, twice):
        for vendor_task_id in ("task-attempt-1", "task-attempt-2"):
            story = told(vocalsep("show", DESTINATION, vendor_task_id, "--format", "json"))
            assert [entry["track_key"] for entry in story["entries"]] == ["disc 1/daisy"]
            assert [manifest["track"]["key"] for manifest in story["manifests"]] == ["disc 1/daisy"]

    def test_is_json_as_it_lies_in_the_bucket(self, vocalsep, twice):
        story = told(vocalsep("show", DESTINATION, "other", "--format", "json"))
        (entry,) = story["entries"]
        assert entry.pop("uri") == f"s3://{BUCKET}/{twice.entry_key('other')}"
        assert entry == twice.json(twice.entry_key("other"))
        assert story["manifests"] == [twice.json(manifest_key("other"))]

    def test_that_landed_or_is_in_a_report_is_found_without_reading_the_ledger(
        self, vocalsep, twice, monkeypatch
    ):
        twice.report([twice.fail("no manifest")])

        def whole_ledger(self, on_read):
            raise AssertionError("the whole ledger was read")

        monkeypatch.setattr(Archive, "entries", whole_ledger)
        for key in ("other", "no manifest"):
            assert len(told(vocalsep("show", DESTINATION, key, "--format", "json"))["entries"]) == 1

    def test_whose_stems_were_moved_away_is_still_told(self, vocalsep, twice):
        twice.client.delete_object(Bucket=BUCKET, Key=manifest_key("other"))
        answer = vocalsep("show", DESTINATION, "other")
        assert answer.exit_code == 0
        assert "other: separate_vocal, landed" in answer.stdout
        assert f"s3://{BUCKET}/{manifest_key('other')} is not there any more" in answer.stderr


def test_an_unknown_track_says_what_to_do(vocalsep, twice):
    answer = vocalsep("show", DESTINATION, "daisy")
    assert answer.exit_code == 2
    assert "There is no track 'daisy'" in answer.stderr
    assert f"`vocalsep audit {DESTINATION} --track 'daisy*'`" in answer.stderr
