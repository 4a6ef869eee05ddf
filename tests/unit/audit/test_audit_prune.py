"""``vocalsep prune``: deletes what no ledger entry needs, and nothing else."""

from __future__ import annotations

import pytest
import time_machine
from audit_world import BUCKET, BY_HAND, DESTINATION, NIGHTLY, NOON

OLD = ("--older-than", "90d")


@pytest.fixture
def old(world):
    """Two runs of half a year ago with a plan and a report each, and one of now."""
    with time_machine.travel(NOON.replace(month=5), tick=False):
        world.plan([world.track("one"), world.track("two")])
        world.report([world.land("one"), world.fail("two")])
        world.report([world.land("three", BY_HAND)], BY_HAND)
    world.report([world.land("four", run("now"))], run("now"))
    return world


@pytest.fixture(autouse=True)
def today(client):
    with time_machine.travel(NOON, tick=False):
        yield


def run(run_id):
    return NIGHTLY.model_copy(update={"run_id": run_id})


def runs(world):
    return {key.split("/")[4] for key in world.keys() if "/_vocalsep/runs/" in key}


class TestPrune:
    def test_says_what_it_would_delete_and_deletes_nothing(self, vocalsep, old):
        before = old.keys()
        answer = vocalsep("prune", DESTINATION, *OLD)
        assert answer.exit_code == 0
        assert old.keys() == before
        assert "2026-05-23       2 files      0.00 MB  nightly/scheduled__1" in answer.stdout
        assert "3 files of 2 runs (0.00 MB) would be deleted. Nothing was: add --yes." in answer.stdout

    def test_deletes_old_runs_and_keeps_ledger_stems_and_manifests(self, vocalsep, old):
        kept = {key for key in old.keys() if "/_vocalsep/runs/" not in key}
        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert answer.exit_code == 0
        assert "3 files of 2 runs (0.00 MB) deleted." in answer.stdout
        assert runs(old) == {"now"}
        assert kept <= old.keys()
        assert "nothing to delete" in vocalsep("prune", DESTINATION, *OLD, "--yes").stdout

    def test_leaves_what_is_told_readable(self, vocalsep, old):
        before = vocalsep("audit", DESTINATION, "--format", "csv").stdout
        vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert vocalsep("audit", DESTINATION, "--format", "csv").stdout == before
        assert vocalsep("verify", DESTINATION).exit_code == 0

    @pytest.mark.parametrize("owed", ["claim", "submit", "doubt"])
    def test_keeps_a_run_that_an_entry_still_needs(self, vocalsep, old, owed):
        getattr(old, owed)("owed", BY_HAND)
        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert "kept: ledger entry of track 'owed' needs it" in answer.stdout
        assert runs(old) == {"now", BY_HAND.run_id}

    def test_keeps_a_run_that_only_attached_to_what_is_owed(self, vocalsep, old):
        old.submit("owed", run("now"))
        old.claim("owed", BY_HAND)
        vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert BY_HAND.run_id in runs(old)

    def test_deletes_nothing_when_an_entry_cannot_be_read(self, vocalsep, old):
        old.put("music/_vocalsep/ledger/00/bad.json", b"?")
        before = old.keys()
        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert answer.exit_code == 2
        assert "What it needs cannot be told, so nothing is deleted." in answer.stderr
        assert old.keys() == before

    def test_leaves_alone_what_is_not_a_run(self, vocalsep, old):
        with time_machine.travel(NOON.replace(month=5), tick=False):
            for key in ("music/_vocalsep/runs/notes.txt", "music/_vocalsep/runs/a/b.txt", "other/file.txt"):
                old.put(key, b"mine")
        vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert {
            "music/_vocalsep/runs/notes.txt",
            "music/_vocalsep/runs/a/b.txt",
            "other/file.txt",
        } <= old.keys()

    def test_names_what_the_store_does_not_delete(self, vocalsep, old, monkeypatch):
        refused = {"Errors": [{"Key": "k", "Code": "AccessDenied", "Message": "no"}]}
        monkeypatch.setattr(old.client, "delete_objects", lambda **_: refused)
        monkeypatch.setattr("airflow_provider_vocalsep.audit.bucket.client_of", lambda **_: old.client)
        answer = vocalsep("prune", DESTINATION, *OLD, "--yes")
        assert answer.exit_code == 2
        assert "2 of 3 files of 2 runs (0.00 MB) deleted." in answer.stdout
        assert f"s3://{BUCKET}/k: AccessDenied no" in answer.stderr


@pytest.mark.parametrize("age", ["90", "soon", "-1d", "9999999y"])
def test_an_age_needs_a_unit(vocalsep, age):
    answer = vocalsep("prune", DESTINATION, "--older-than", age)
    assert answer.exit_code == 2
    assert "is no length of time. Write 90d, 12w, 1y or 36h." in answer.stderr
