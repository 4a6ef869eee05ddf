"""docs/audit.md: its examples are valid, its queries run, its tables are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import jsonschema
import pytest

from airflow_provider_vocalsep.audit.schemas import NAMES, load_schema
from airflow_provider_vocalsep.audit.timeline import EVENT_LABELS
from airflow_provider_vocalsep.cli.main import COMMANDS
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger import LedgerEntry
from airflow_provider_vocalsep.runs.report import BatchReport
from tests.support.moto_s3 import empty_bucket
from tests.support.sample_bucket import BY_HAND, NIGHTLY, SampleBucket, manifest_key

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (.*?) -->\n```json\n(.*?)\n```", PAGE, re.DOTALL))
QUERIES = re.findall(r"([^\n]+):\n\n```sql\n(.*?)\n```", PAGE, re.DOTALL)
ENTRY, MANIFEST, REPORT = "ledger-entry-1", "manifest-1", "run-report-head-1, run-report-row-1"


def validate(value, name):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.validate(value, load_schema(name), jsonschema.Draft202012Validator, format_checker=checker)


class TestExamples:
    def test_there_is_one_of_an_entry_a_manifest_and_a_report(self):
        assert set(EXAMPLES) == {ENTRY, MANIFEST, REPORT}

    def test_every_example_is_valid_by_its_schema(self):
        validate(json.loads(EXAMPLES[ENTRY]), ENTRY)
        validate(json.loads(EXAMPLES[MANIFEST]), MANIFEST)
        head, *rows = map(json.loads, EXAMPLES[REPORT].splitlines())
        validate(head, "run-report-head-1")
        for row in rows:
            validate(row, "run-report-row-1")

    def test_no_example_has_a_field_that_is_not_in_its_schema(self):
        for name in (ENTRY, MANIFEST):
            schema, value = load_schema(name), json.loads(EXAMPLES[name])
            assert find_unknown_fields(value, schema, schema) == []
        head, *rows = map(json.loads, EXAMPLES[REPORT].splitlines())
        assert set(head) <= set(load_schema("run-report-head-1")["properties"])
        assert all(set(row) <= set(load_schema("run-report-row-1")["properties"]) for row in rows)

    def test_entry_manifest_and_report_are_of_the_same_separation(self):
        entry = LedgerEntry.model_validate_json(EXAMPLES[ENTRY])
        manifest = Manifest.from_json(EXAMPLES[MANIFEST])
        row = BatchReport.from_jsonl(EXAMPLES[REPORT].encode()).rows["demo/daisy"]
        assert {manifest.uri} == set(entry.landings) == {row.manifest}
        assert manifest.entry == row.entry
        assert manifest.vendor_task_id == entry.current.vendor_task_id == row.vendor_task_id
        landed = [(file.uri, file.sha256) for file in entry.history[-1].files]
        assert landed == [(stem.uri, stem.sha256) for stem in manifest.stems]


def find_unknown_fields(value, part, schema):
    """Return the fields of a value that its schema does not have."""
    part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
    for choice in part.get("anyOf", []):
        if "$ref" in choice or choice.get("type") in ("object", "array"):
            part = schema["$defs"][choice["$ref"].rsplit("/", 1)[1]] if "$ref" in choice else choice
    if isinstance(value, list) and "items" in part:
        return [name for item in value for name in find_unknown_fields(item, part["items"], schema)]
    if not isinstance(value, dict) or "properties" not in part:
        return []
    known = part["properties"]
    below = [
        name for key in value if key in known for name in find_unknown_fields(value[key], known[key], schema)
    ]
    return [key for key in value if key not in known] + below


@pytest.fixture(scope="module")
def copies(s3_in_memory, tmp_path_factory):
    """Copies of a bucket's objects in a folder."""
    empty_bucket(s3_in_memory)
    sample, folder = SampleBucket(s3_in_memory), tmp_path_factory.mktemp("copies")
    rows = [sample.land("album/1 🎵"), sample.fail("album/2", title="Two"), sample.lose_answer("album/3")]
    sample.plan([sample.track(row.track) for row in rows])
    sample.report([*rows, sample.leave("album/4")])
    for number in range(40):  # more files than DuckDB reads to guess their columns
        sample.land(f"other/{number}", BY_HAND)
    for key in sample.keys():
        path = folder / key.removeprefix("music/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.get(key))
    return folder


class TestQueries:
    @pytest.fixture
    def ask(self, copies, monkeypatch):
        """Run a query of the page over the copies."""
        monkeypatch.chdir(copies)
        return lambda title: duckdb.sql(dict(QUERIES)[title]).fetchall()

    def test_every_query_is_tested_here(self):
        assert len(QUERIES) == 4

    def test_query_of_payments_counts_by_run(self, ask):
        rows = ask("What each run paid for")

        assert rows == [(BY_HAND.dag_id, BY_HAND.run_id, 40, 400), (NIGHTLY.dag_id, NIGHTLY.run_id, 2, 20)]

    def test_query_of_failures_counts_by_code(self, ask):
        assert ask("What the vendor failed on, and how often") == [("451", 1, 1)]

    def test_query_of_stems_returns_their_digests(self, ask, copies):
        stems = ask("Which stems there are, and their digests")

        assert len(stems) == 2 * 41
        manifest = json.loads((copies / manifest_key("album/1 🎵").removeprefix("music/")).read_bytes())
        of_track = {stem[2:] for stem in stems if stem[0] == "album/1 🎵"}
        assert of_track == {(stem["name"], stem["bytes"], stem["sha256"]) for stem in manifest["stems"]}

    def test_query_of_reports_returns_what_was_left_or_failed(self, ask):
        assert [row[:2] for row in ask("What was left or failed, by the run reports")] == [
            ("album/2", "failed"),
            ("album/3", "failed"),
            ("album/4", "left"),
        ]


def test_page_names_every_event_schema_and_command():
    events = set(re.findall(r"`(\w+)`", PAGE.split("Events:", 1)[1].split("### A manifest", 1)[0]))
    assert set(EVENT_LABELS) <= events
    for name in NAMES:
        assert name in PAGE
    for name in ("audit", "show", "verify", "retry-plan", "prune"):
        assert name in COMMANDS
        assert f"vocalsep {name} s3://" in PAGE
