"""``vocalsep prune``: deletes files of runs that no ledger entry needs, and nothing else."""

from __future__ import annotations

import pytest
import time_machine

from airflow_provider_vocalsep.storage import clients
from tests.support.sample_bucket import BUCKET, BY_HAND, DESTINATION, NIGHTLY, NOON

OLD = ("--older-than", "90d")


@pytest.fixture
def old(sample):
    """Two runs of half a year ago, one with a plan, and a run of now."""
    with time_machine.travel(NOON.replace(month=5), tick=False):
        sample.plan([sample.track("one"), sample.track("two")])
        sample.report([sample.land("one"), sample.fail("two")])
        sample.report([sample.land("three", BY_HAND)], BY_HAND)
    sample.report([sample.land("four", task_of("now"))], task_of("now"))
    return sample


@pytest.fixture(autouse=True)
def today(client):
    with time_machine.travel(NOON, tick=False):
        yield


def task_of(run_id):
    return NIGHTLY.model_copy(update={"run_id": run_id})


def remaining_runs(sample):
    return {key.split("/")[4] for key in sample.keys() if "/_vocalsep/runs/" in key}


class TestPrune:
    def test_dry_run_lists_the_files_and_deletes_nothing(self, vocalsep, old):
        before = old.keys()

        answer = vocalsep("prune", DESTINATION, *OLD)

        assert answer.exit_code == 0
        assert old.keys() == before
        assert "2026-05-23       2 files      0.00 MB  nightly/scheduled__1" in answer.stdout
        assert "3 files of 2 runs (0.00 MB) would be deleted. Nothing was: add --yes." in answer.stdout

    def test_old_runs_are_deleted_and_ledger_stems_and_manifests_stay(self, vocalsep, old):
        kept = {key for key in old.keys() if "/_vocalsep/runs/" not in key}

        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert answer.exit_code == 0
        assert "3 files of 2 runs (0.00 MB) deleted." in answer.stdout
        assert remaining_runs(old) == {"now"}
        assert kept <= old.keys()
        assert "nothing to delete" in vocalsep("prune", DESTINATION, *OLD, "--yes").stdout

    def test_audit_and_verify_are_the_same_afterwards(self, vocalsep, old):
        before = vocalsep("audit", DESTINATION, "--format", "csv").stdout

        vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert vocalsep("audit", DESTINATION, "--format", "csv").stdout == before
        assert vocalsep("verify", DESTINATION).exit_code == 0

    @pytest.mark.parametrize("unfinished", ["claim", "submit", "lose_answer"])
    def test_run_that_an_entry_still_needs_is_kept(self, vocalsep, old, unfinished):
        getattr(old, unfinished)("unfinished", BY_HAND)

        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert "kept: ledger entry of track 'unfinished' needs it" in answer.stdout
        assert remaining_runs(old) == {"now", BY_HAND.run_id}

    def test_run_that_only_attached_to_an_unfinished_entry_is_kept(self, vocalsep, old):
        old.submit("unfinished", task_of("now"))
        old.claim("unfinished", BY_HAND)

        vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert BY_HAND.run_id in remaining_runs(old)

    def test_nothing_is_deleted_when_an_entry_cannot_be_read(self, vocalsep, old):
        old.put("music/_vocalsep/ledger/00/bad.json", b"?")
        before = old.keys()

        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert answer.exit_code == 2
        assert "It may need any run, so nothing is deleted." in answer.stderr
        assert old.keys() == before

    def test_objects_that_belong_to_no_run_are_kept(self, vocalsep, old):
        with time_machine.travel(NOON.replace(month=5), tick=False):
            others = {"music/_vocalsep/runs/notes.txt", "music/_vocalsep/runs/a/b.txt", "other/file.txt"}
            for key in others:
                old.put(key, b"mine")

        vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert others <= old.keys()

    def test_objects_that_the_store_does_not_delete_are_named(self, vocalsep, old, monkeypatch):
        refused = {"Errors": [{"Key": "k", "Code": "AccessDenied", "Message": "no"}]}
        monkeypatch.setattr(old.client, "delete_objects", lambda **_: refused)
        monkeypatch.setattr(clients, "store_from_shell", lambda **_: old.store)

        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")

        assert answer.exit_code == 2
        assert "2 of 3 files of 2 runs (0.00 MB) deleted." in answer.stdout
        assert f"s3://{BUCKET}/k: AccessDenied no" in answer.stderr


class TestAgeOption:
    @pytest.mark.parametrize("age", ["90", "soon", "-1d", "9999999y"])
    def test_age_without_a_unit_is_a_usage_error(self, vocalsep, age):
        answer = vocalsep("prune", DESTINATION, "--older-than", age)

        assert answer.exit_code == 2
        assert "is not an age. Write 90d, 12w, 1y or 36h." in answer.stderr
