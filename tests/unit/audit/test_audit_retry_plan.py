"""``vocalsep retry-plan``: a catalogue of what failed or was left."""

from __future__ import annotations

import json

import pytest
from audit_world import BY_HAND, DESTINATION, NIGHTLY

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.catalogue.plan import Plan
from airflow_provider_vocalsep.catalogue.sources import read_rows
from airflow_provider_vocalsep.runs.report import RowState

SIGNED = "https://music.example/own.wav?X-Amz-Signature=abc"


@pytest.fixture
def retry_plan(vocalsep, tmp_path):
    """Write a retry plan and plan it as PlanCatalogueOperator does."""

    def run(*options, name="again.csv", exit_code=0):
        path = tmp_path / name
        answer = vocalsep("retry-plan", DESTINATION, "-o", str(path), *options)
        assert answer.exit_code == exit_code, answer.output
        with path.open("rb") as file:
            plan = Plan()
            tracks = list(plan.read_tracks(read_rows(file, name)))
        plan.raise_for_rejects(name)
        return tracks, answer.stderr

    return run


@pytest.fixture
def history(world):
    rows = [world.land("landed"), world.fail("failed, once", title="Fünf\u2028🎵"), world.left("left")]
    world.report(rows)
    return world


@pytest.mark.parametrize("name", ["again.csv", "again.jsonl"])
def test_what_it_writes_is_planned_as_the_same_tracks(retry_plan, history, name):
    tracks, said = retry_plan(name=name)
    assert tracks == [history.track("failed, once", title="Fünf\u2028🎵"), history.track("left")]
    assert "2 tracks to try again, separate_vocal." in said


class TestChoice:
    @pytest.mark.parametrize(
        ("options", "found"),
        [
            (("--state", "left"), ["left"]),
            (("--state", "failed"), ["failed, once"]),
            (("--run", NIGHTLY.run_id), ["failed, once", "left"]),
            (("--run", "another"), []),
            (("--dag", "album"), []),
            (("--separation-type", "split_stem"), []),
            (("--since", "1h"), ["failed, once", "left"]),
            (("--until", "2020-01-01"), []),
        ],
    )
    def test_is_by_state_run_kind_and_time(self, retry_plan, history, options, found):
        assert [track.key for track in retry_plan(*options)[0]] == found

    def test_leaves_out_what_has_landed_since(self, retry_plan, history):
        history.report([history.land("failed, once", BY_HAND)], BY_HAND)
        assert [track.key for track in retry_plan()[0]] == ["left"]

    def test_knows_failures_of_which_only_the_ledger_tells(self, retry_plan, world):
        world.fail("old", verdict=Verdict.FATAL)
        assert [track.key for track in retry_plan()[0]] == ["old"]

    def test_of_several_kinds_asks_for_one(self, vocalsep, history, tmp_path):
        key = history.report([history.fail("twelve", BY_HAND)], BY_HAND)
        head, row = history.client.get_object(Bucket="stems", Key=key)["Body"].read().decode().splitlines()
        head = json.dumps({**json.loads(head), "separation_type": "split_stem"})
        history.put(key, f"{head}\n{row}\n".encode())
        answer = vocalsep("retry-plan", DESTINATION, "-o", str(tmp_path / "x.csv"))
        assert answer.exit_code == 2
        assert (
            "these are of several: 2 of separate_vocal, 1 of split_stem. Choose with --separation-type."
            in answer.stderr
        )
        assert not (tmp_path / "x.csv").exists()


class TestAnAddress:
    def test_that_is_signed_is_taken_from_the_plan(self, retry_plan, world):
        own = {"task_id": None, "audio_id": None, "audio_url": SIGNED}
        world.plan([world.track("own", **own)])
        row = world.row(world.track("own", **own), RowState.FAILED, message="no")
        world.report([row])
        (track,), _ = retry_plan()
        assert track.audio_url == SIGNED

    def test_whose_plan_is_gone_is_taken_without_its_signature(self, retry_plan, world):
        own = {"task_id": None, "audio_id": None, "audio_url": SIGNED}
        world.report([world.row(world.track("own", **own), RowState.FAILED, message="no")])
        (track,), _ = retry_plan()
        assert track.audio_url == "https://music.example/own.wav"

    def test_that_nobody_knows_any_more_is_named(self, retry_plan, world):
        row = world.row(world.track("lost"), RowState.FAILED, message="no", source=None, entry=None)
        world.report([row])
        tracks, said = retry_plan(exit_code=2)
        assert tracks == []
        assert "Track 'lost' is left out, its audio is not known any more" in said


class TestOutput:
    def test_goes_to_standard_output(self, vocalsep, history):
        answer = vocalsep("retry-plan", DESTINATION, "-o", "-")
        assert answer.stdout.splitlines()[0] == "key,title,task_id,audio_id,audio_url,duration,state,reason"
        assert "tracks to try again" not in answer.stdout

    def test_that_cannot_be_written_is_said(self, vocalsep, history, tmp_path):
        answer = vocalsep("retry-plan", DESTINATION, "-o", str(tmp_path / "no" / "such.csv"))
        assert answer.exit_code == 2
        assert "such.csv could not be written: No such file or directory." in answer.stderr

    def test_of_nothing_is_an_empty_catalogue(self, retry_plan):
        tracks, said = retry_plan()
        assert tracks == []
        assert "Nothing failed or was left: no tracks to try again." in said
