"""``vocalsep audit``: what happened to every track."""

from __future__ import annotations

import csv
import io
import json

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.ledger import EntryState
from tests.support.sample_bucket import BUCKET, BY_HAND, DESTINATION, NIGHTLY

EMOJI = "disc 1/02 – 🎵"


@pytest.fixture
def audit(vocalsep):
    def ask(*options):
        answer = vocalsep("audit", DESTINATION, *options, "--format", "json")
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    return ask


@pytest.fixture
def history(sample):
    """Tracks in several states, of two runs a day apart."""
    rows = [sample.land("landed", title="Daisy Bell"), sample.fail("failed"), sample.lose_answer("doubted")]
    rows.append(sample.leave("left behind"))
    sample.submit("submitted")
    sample.call_back("submitted", count=2)
    sample.report(rows)
    sample.now = sample.now.replace(day=24)
    sample.land(EMOJI, BY_HAND)
    sample.fail("given back", BY_HAND, Verdict.REFUNDED)
    return sample


def keys_of(answer):
    return {row["track"] for row in answer["tracks"]}


class TestRows:
    def test_every_track_has_its_state_run_and_costs(self, audit, history):
        rows = {row["track"]: row for row in audit()["tracks"]}

        assert {key: row["state"] for key, row in rows.items()} == {
            "landed": "landed",
            "failed": "failed",
            "doubted": "in_doubt",
            "left behind": "left",
            "submitted": "submitted",
            EMOJI: "landed",
            "given back": "failed",
        }
        landed = rows["landed"]
        assert (landed["submits"], landed["credits"], landed["landings"]) == (1, 10, 1)
        assert (landed["dag_id"], landed["run_id"], landed["user"]) == ("nightly", "scheduled__1", None)
        assert landed["manifest"] == f"{DESTINATION}/landed/separate_vocal/manifest.json"
        assert landed["message"] is None
        assert rows["failed"]["message"] == "no audio there"
        assert rows["given back"]["given_back"] == 10
        assert rows["doubted"]["in_doubt"] == 1
        assert rows["left behind"]["message"] == "max_credits is used up"
        assert rows[EMOJI]["user"] == "ann"

    def test_refused_track_is_found_by_its_state_with_the_reason(self, audit, history):
        history.refuse("too fast")

        [row] = audit("--state", "refused")["tracks"]

        assert (row["track"], row["state"], row["message"]) == ("too fast", "refused", "too fast")
        assert (row["refusals"], row["credits"]) == (1, 0)

    @pytest.mark.parametrize("state", list(EntryState))
    def test_every_state_of_the_ledger_can_be_asked_for(self, audit, history, state):
        assert {row["state"] for row in audit("--state", state.value)["tracks"]} <= {state.value}

    def test_totals_are_the_sums_of_the_rows(self, audit, history):
        assert audit()["totals"] == {
            "separations": 7,
            "states": {"landed": 2, "failed": 2, "in_doubt": 1, "left": 1, "submitted": 1},
            "submits": 5,
            "credits": 50,
            "given_back": 10,
            "failures": 2,
            "refusals": 0,
            "callbacks": 2,
            "landings": 2,
            "in_doubt": 1,
        }

    def test_failure_and_its_retry_are_both_charged(self, audit, sample):
        sample.fail("one")
        sample.land("one", BY_HAND)

        (row,) = audit()["tracks"]
        assert (row["state"], row["submits"], row["credits"], row["failures"]) == ("landed", 2, 20, 1)
        assert row["message"] is None


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "keys"),
        [
            (("--state", "failed"), {"failed", "given back"}),
            (("--state", "left", "--state", "in_doubt"), {"left behind", "doubted"}),
            (("--track", "DAISY"), {"landed"}),
            (("--track", "disc 1/*"), {EMOJI}),
            (("--track", "🎵"), {EMOJI}),
            (("--track", "task-attempt-1"), {"landed"}),
            (("--track", "[no such"), set()),
            (("--dag", "album"), {EMOJI, "given back"}),
            (("--run", "manual__2", "--state", "landed"), {EMOJI}),
            (("--run", "manual__"), set()),
            (("--until", "2026-11-24"), {"landed", "failed", "doubted", "left behind", "submitted"}),
            (("--since", "2026-11-24T00:00+00:00"), {EMOJI, "given back"}),
            (("--since", "2027-01-01"), set()),
        ],
    )
    def test_options_select_tracks(self, audit, history, options, keys):
        rows = keys_of(audit(*options))

        # A track that was left has no event: its time is that of the report, which the store sets.
        assert rows - {"left behind"} == keys - {"left behind"}
        if "left" in options or options[0] not in ("--since", "--until"):
            assert ("left behind" in rows) == ("left behind" in keys)

    def test_run_option_counts_only_events_of_that_run(self, audit, sample):
        sample.fail("one")
        sample.land("one", BY_HAND)

        (second,) = audit("--run", BY_HAND.run_id)["tracks"]
        (first,) = audit("--run", NIGHTLY.run_id)["tracks"]

        assert (second["submits"], second["failures"], second["landings"]) == (1, 0, 1)
        assert (first["submits"], first["failures"], first["landings"]) == (1, 1, 0)

    def test_wrong_time_is_a_usage_error_with_an_example(self, vocalsep):
        answer = vocalsep("audit", DESTINATION, "--since", "yesterday")

        assert answer.exit_code == 2
        assert "Write 2026-11-23, 2026-11-23T18:00 (UTC), or 7d" in answer.output


class TestFormats:
    def test_table_has_rows_totals_and_submits_in_doubt(self, vocalsep, history):
        output = vocalsep("audit", DESTINATION).stdout

        assert EMOJI in output
        assert "7 separations: 2 failed, 1 in_doubt, 2 landed, 1 left, 1 submitted" in output
        assert "5 submits, 50 credits, 10 given back, 2 failures, 0 refused submits, 2 callbacks" in output
        assert "1 submits in doubt: their answers were lost, and they may be paid for." in output

    def test_limit_cuts_the_table_with_a_note(self, vocalsep, history):
        output = vocalsep("audit", DESTINATION, "--limit", "2").stdout

        assert "and 5 more: --limit 0 shows all" in output
        assert "more" not in vocalsep("audit", DESTINATION, "--limit", "0").stdout

    def test_table_shows_markup_in_names_literally(self, vocalsep, sample):
        sample.submit("[bold]not markup[/bold] :smile:")

        assert "[bold]not markup[/bold] :smile:" in vocalsep("audit", DESTINATION).stdout

    def test_csv_has_the_rows_of_the_json_format(self, vocalsep, audit, history):
        rows = list(csv.DictReader(io.StringIO(vocalsep("audit", DESTINATION, "--format", "csv").stdout)))

        tracks = audit()["tracks"]
        assert list(rows[0]) == list(tracks[0])
        assert [row["track"] for row in rows] == [row["track"] for row in tracks]
        assert sum(float(row["credits"]) for row in rows) == 50


class TestEmptyDestination:
    def test_empty_destination_is_named_with_the_options_to_check(self, vocalsep):
        answer = vocalsep("audit", DESTINATION)

        assert answer.exit_code == 0
        found_nothing = f"No vocalsep ledger or run reports found at {DESTINATION}"
        assert f"{found_nothing} (ledger: {DESTINATION}/_vocalsep/ledger/)" in answer.stdout
        assert "--ledger if they set ledger=" in answer.stdout

    def test_filter_without_matches_says_so(self, vocalsep, history):
        assert vocalsep("audit", DESTINATION, "--track", "no such").stdout == "No track matches.\n"

    def test_empty_destination_is_an_empty_list_in_json_and_a_header_in_csv(self, vocalsep, audit):
        assert audit() == {
            "totals": {"separations": 0, "states": {}, **dict.fromkeys(audit()["totals"], 0)}
            | {"states": {}},
            "tracks": [],
        }
        assert vocalsep("audit", DESTINATION, "--format", "csv").stdout.startswith("track,title,state,")


class TestUnreadableObjects:
    def test_unreadable_objects_are_named_and_the_rest_is_shown(self, vocalsep, history):
        history.put("music/_vocalsep/ledger/00/bad.json", b'{"state": "landed"}')
        history.put("music/_vocalsep/runs/d/r/separate/00000.jsonl", b"not a report")

        answer = vocalsep("audit", DESTINATION, "--format", "json")

        assert answer.exit_code == 2
        assert json.loads(answer.stdout)["totals"]["separations"] == 7
        assert (
            "Not readable: s3://stems/music/_vocalsep/ledger/00/bad.json is not a ledger entry (account:"
            in answer.stderr
        )
        assert "s3://stems/music/_vocalsep/runs/d/r/separate/00000.jsonl is not a run report" in answer.stderr


def test_ledger_option_reads_another_ledger(vocalsep, sample):
    sample.land("one")
    for key in [key for key in sample.keys() if "/_vocalsep/ledger/" in key]:
        sample.put(key.replace("music/_vocalsep/ledger", "books"), sample.get(key))
        sample.delete(key)

    answer = vocalsep("audit", DESTINATION, "--ledger", f"s3://{BUCKET}/books/", "--format", "json")

    assert json.loads(answer.stdout)["totals"]["landings"] == 1
