"""``vocalsep retry-plan``: a catalogue of the tracks that failed or were left."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.catalogue.plan import Plan
from airflow_provider_vocalsep.catalogue.sources import read_rows
from airflow_provider_vocalsep.runs.report import RowState
from tests.support.sample_bucket import BY_HAND, DESTINATION, NIGHTLY

SIGNED = "https://music.example/own.wav?X-Amz-Signature=abc"


@pytest.fixture
def retry_plan(vocalsep, tmp_path):
    """Write a retry plan and read it as PlanCatalogueOperator does."""

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
def history(sample):
    rows = [sample.land("landed"), sample.fail("failed, once", title="Fünf\u2028🎵"), sample.leave("left")]
    sample.report(rows)
    return sample


class TestCatalogue:
    @pytest.mark.parametrize("name", ["again.csv", "again.jsonl"])
    def test_plan_operator_reads_the_same_tracks(self, retry_plan, history, name):
        tracks, output = retry_plan(name=name)

        assert tracks == [history.track("failed, once", title="Fünf\u2028🎵"), history.track("left")]
        assert "2 tracks to retry, separate_vocal." in output

    def test_without_tracks_is_empty(self, retry_plan):
        tracks, output = retry_plan()

        assert tracks == []
        assert "No tracks failed or were left." in output


class TestSelection:
    @pytest.mark.parametrize(
        ("options", "keys"),
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
    def test_options_select_by_state_run_type_and_time(self, retry_plan, history, options, keys):
        assert [track.key for track in retry_plan(*options)[0]] == keys

    def test_tracks_that_landed_since_are_left_out(self, retry_plan, history):
        history.report([history.land("failed, once", BY_HAND)], BY_HAND)

        assert [track.key for track in retry_plan()[0]] == ["left"]

    def test_failures_that_are_only_in_the_ledger_are_included(self, retry_plan, sample):
        sample.fail("old", verdict=Verdict.FATAL)

        assert [track.key for track in retry_plan()[0]] == ["old"]

    def test_several_separation_types_are_an_error(self, vocalsep, history, tmp_path):
        key = history.report([history.fail("twelve", BY_HAND)], BY_HAND)
        head, row = history.get(key).decode().splitlines()
        head = json.dumps({**json.loads(head), "separation_type": "split_stem"})
        history.put(key, f"{head}\n{row}\n".encode())

        answer = vocalsep("retry-plan", DESTINATION, "-o", str(tmp_path / "x.csv"))

        assert answer.exit_code == 2
        assert "separation types: 2 separate_vocal, 1 split_stem. Set --separation-type." in answer.stderr
        assert not (tmp_path / "x.csv").exists()


class TestAudio:
    def test_signed_address_is_taken_from_the_plan(self, retry_plan, sample):
        own = {"task_id": None, "audio_id": None, "audio_url": SIGNED}
        sample.plan([sample.track("own", **own)])
        row = sample.row(sample.track("own", **own), RowState.FAILED, message="no")
        sample.report([row])

        (track,), _ = retry_plan()

        assert track.audio_url == SIGNED

    def test_address_has_no_signature_once_its_plan_is_gone(self, retry_plan, sample):
        own = {"task_id": None, "audio_id": None, "audio_url": SIGNED}
        sample.report([sample.row(sample.track("own", **own), RowState.FAILED, message="no")])

        (track,), _ = retry_plan()

        assert track.audio_url == "https://music.example/own.wav"

    def test_track_whose_audio_is_no_longer_known_is_named(self, retry_plan, sample):
        row = sample.row(sample.track("lost"), RowState.FAILED, message="no", source=None, entry=None)
        sample.report([row])

        tracks, output = retry_plan(exit_code=2)

        assert tracks == []
        assert "Track 'lost' is left out, its audio is no longer known" in output


class TestOutput:
    def test_dash_writes_csv_to_standard_output(self, vocalsep, history):
        answer = vocalsep("retry-plan", DESTINATION, "-o", "-")

        assert answer.stdout.splitlines()[0] == "key,title,task_id,audio_id,audio_url,duration,state,reason"
        assert "tracks to retry" not in answer.stdout

    def test_file_that_cannot_be_written_is_an_error(self, vocalsep, history, tmp_path):
        answer = vocalsep("retry-plan", DESTINATION, "-o", str(tmp_path / "no" / "such.csv"))

        assert answer.exit_code == 2
        assert "such.csv could not be written: No such file or directory." in answer.stderr
