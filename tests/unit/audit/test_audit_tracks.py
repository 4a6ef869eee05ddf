"""``vocalsep audit``: what happened to every track."""

from __future__ import annotations

import csv
import io
import json

import pytest
from audit_world import BUCKET, BY_HAND, DESTINATION, NIGHTLY

from airflow_provider_vocalsep.api.errors import Verdict

EMOJI = "disc 1/02 – 🎵"


@pytest.fixture
def audit(vocalsep):
    def ask(*options):
        answer = vocalsep("audit", DESTINATION, *options, "--format", "json")
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    return ask


@pytest.fixture
def history(world):
    """One track in each state, two runs, a day apart."""
    rows = [world.land("landed", title="Daisy Bell"), world.fail("failed"), world.doubt("doubted")]
    rows.append(world.left("left behind"))
    world.submit("submitted")
    world.call_back("submitted", count=2)
    world.report(rows)
    world.now = world.now.replace(day=24)
    world.land(EMOJI, BY_HAND)
    world.fail("given back", BY_HAND, Verdict.REFUNDED)
    return world


def keys(answer):
    return {row["track"] for row in answer["tracks"]}


class TestRows:
    def test_are_every_track_with_what_it_cost(self, audit, history):
        rows = {row["track"]: row for row in audit()["tracks"]}
        assert {key: row["state"] for key, row in rows.items()} == {
            "landed": "landed", "failed": "failed", "doubted": "in_doubt", "left behind": "left",
            "submitted": "submitted", EMOJI: "landed", "given back": "failed",
        }  # fmt: skip
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

    def test_add_up_to_the_totals(self, audit, history):
        assert audit()["totals"] == {
            "separations": 7, "states": {"landed": 2, "failed": 2, "in_doubt": 1, "left": 1, "submitted": 1},
            "submits": 5, "credits": 50, "given_back": 10, "failures": 2, "refusals": 0, "callbacks": 2,
            "landings": 2, "in_doubt": 1,
        }  # fmt: skip

    def test_of_failures_that_were_tried_again_tell_both_charges(self, audit, world):
        world.fail("one")
        world.land("one", BY_HAND)
        (row,) = audit()["tracks"]
        assert (row["state"], row["submits"], row["credits"], row["failures"]) == ("landed", 2, 20, 1)
        assert row["message"] is None


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "found"),
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
    def test_choose(self, audit, history, options, found):
        # What was left has no event: its time is the report's, which the store sets.
        rows = keys(audit(*options))
        assert rows - {"left behind"} == found - {"left behind"}
        if "left" in options or options[0] not in ("--since", "--until"):
            assert ("left behind" in rows) == ("left behind" in found)

    def test_by_run_count_only_what_that_run_did(self, audit, world):
        world.fail("one")
        world.land("one", BY_HAND)
        (row,) = audit("--run", BY_HAND.run_id)["tracks"]
        assert (row["submits"], row["failures"], row["landings"]) == (1, 0, 1)
        (row,) = audit("--run", NIGHTLY.run_id)["tracks"]
        assert (row["submits"], row["failures"], row["landings"]) == (1, 1, 0)

    def test_that_are_no_time_are_a_usage_error_that_shows_one(self, vocalsep):
        answer = vocalsep("audit", DESTINATION, "--since", "yesterday")
        assert answer.exit_code == 2
        assert "Write 2026-11-23, 2026-11-23T18:00 (UTC), or 7d" in answer.output


class TestForms:
    def test_table_shows_rows_totals_and_doubts(self, vocalsep, history):
        said = vocalsep("audit", DESTINATION).stdout
        assert EMOJI in said
        assert "7 separations: 2 failed, 1 in_doubt, 2 landed, 1 left, 1 submitted" in said
        assert "5 submits, 50 credits, 10 given back, 2 failures, 0 refused submits, 2 callbacks" in said
        assert "1 submits in doubt: their answers were lost, and they may be paid for." in said

    def test_table_is_cut_and_says_so(self, vocalsep, history):
        said = vocalsep("audit", DESTINATION, "--limit", "2").stdout
        assert "and 5 more: --limit 0 shows all" in said
        assert "more" not in vocalsep("audit", DESTINATION, "--limit", "0").stdout

    def test_table_takes_names_as_they_are(self, vocalsep, world):
        world.submit("[bold]not markup[/bold] :smile:")
        assert "[bold]not markup[/bold] :smile:" in vocalsep("audit", DESTINATION).stdout

    def test_csv_has_the_rows_of_the_json(self, vocalsep, audit, history):
        rows = list(csv.DictReader(io.StringIO(vocalsep("audit", DESTINATION, "--format", "csv").stdout)))
        told = audit()["tracks"]
        assert list(rows[0]) == list(told[0])
        assert [row["track"] for row in rows] == [row["track"] for row in told]
        assert sum(float(row["credits"]) for row in rows) == 50


class TestNothing:
    def test_at_an_address_says_what_to_give(self, vocalsep):
        answer = vocalsep("audit", DESTINATION)
        assert answer.exit_code == 0
        assert (
            f"There is nothing of ours at {DESTINATION}: no ledger at {DESTINATION}/_vocalsep/ledger/"
            in answer.stdout
        )
        assert "--ledger if they set ledger=" in answer.stdout

    def test_that_matches_is_said(self, vocalsep, history):
        assert vocalsep("audit", DESTINATION, "--track", "no such").stdout == "No track matches.\n"

    def test_is_an_empty_list_and_a_header_for_programs(self, vocalsep, audit):
        assert audit() == {
            "totals": {"separations": 0, "states": {}, **dict.fromkeys(audit()["totals"], 0)}
            | {"states": {}},
            "tracks": [],
        }
        assert vocalsep("audit", DESTINATION, "--format", "csv").stdout.startswith("track,title,state,")


class TestABadObject:
    def test_is_named_and_the_rest_is_shown(self, vocalsep, history):
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


def test_a_ledger_elsewhere_is_read_there(vocalsep, world):
    world.land("one")
    for key in [key for key in world.keys() if "/_vocalsep/ledger/" in key]:
        body = world.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        world.put(key.replace("music/_vocalsep/ledger", "books"), body)
        world.client.delete_object(Bucket=BUCKET, Key=key)
    answer = vocalsep("audit", DESTINATION, "--ledger", f"s3://{BUCKET}/books/", "--format", "json")
    assert json.loads(answer.stdout)["totals"]["landings"] == 1
