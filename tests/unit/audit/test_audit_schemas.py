"""The JSON Schemas of the files in the bucket."""

from __future__ import annotations

import json

import jsonschema
import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.audit.schemas import NAMES, load_schema
from airflow_provider_vocalsep.audit.schemas.write import MODELS, text_of
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger import entry
from airflow_provider_vocalsep.runs import report
from tests.support.sample_bucket import BY_HAND


@pytest.mark.parametrize("name", NAMES)
class TestLoadSchema:
    def test_schema_is_that_of_the_model(self, name):
        assert load_schema(name) == json.loads(text_of(name)), "run `make schemas`"

    def test_schema_is_valid_and_has_its_id(self, name):
        jsonschema.Draft202012Validator.check_schema(load_schema(name))
        assert load_schema(name)["$id"] == f"urn:airflow-provider-vocalsep:{name}"

    def test_schema_describes_every_field(self, name):
        schema = load_schema(name)
        for part in [schema, *schema.get("$defs", {}).values()]:
            assert part["description"]
            for field, described in part.get("properties", {}).items():
                assert described.get("description"), f"{field} of {part['title']}"
                assert "`" not in described["description"]


def test_every_file_and_version_has_a_schema():
    assert set(NAMES) == set(MODELS)
    versions = {"ledger-entry": entry.SCHEMA_VERSION, "run-report-head": report.SCHEMA_VERSION}
    versions["manifest"] = Manifest.model_fields["schema_version"].default
    assert all(f"{name}-{version}" in NAMES for name, version in versions.items())


def test_written_files_are_valid(sample):
    rows = [
        sample.land("one", title="One 🎵"),
        sample.fail("two", verdict=Verdict.REFUNDED),
        sample.lose_answer("three"),
    ]
    sample.call_back("two", count=3)
    sample.report([*rows, sample.leave("four")])
    sample.report([sample.land("five", BY_HAND)], BY_HAND)
    sample.plan([sample.track("one", title="One 🎵"), sample.track("two", duration=1.5)])

    checked = dict.fromkeys(NAMES, 0)
    for name, value in read_files(sample):
        jsonschema.validate(value, load_schema(name), jsonschema.Draft202012Validator)
        checked[name] += 1

    assert checked == {
        "ledger-entry-1": 4,
        "manifest-1": 2,
        "run-report-head-1": 2,
        "run-report-row-1": 5,
        "plan-track-1": 2,
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ledger-entry-1", {"state": "paid"}),
        ("ledger-entry-1", {"attempts": []}),
        ("manifest-1", {"stems": None}),
        ("run-report-head-1", {"landed": "many"}),
        ("run-report-row-1", {"track": None}),
    ],
)
def test_wrong_value_is_not_valid(sample, name, change):
    sample.report([sample.land("one")])
    value = dict(read_files(sample))[name]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**value, **change}, load_schema(name))


def read_files(sample):
    for key in sorted(sample.keys()):
        body = sample.get(key).decode()
        if "/_vocalsep/ledger/" in key and key.endswith(".json"):
            yield "ledger-entry-1", json.loads(body)
        elif key.endswith("/manifest.json"):
            yield "manifest-1", json.loads(body)
        elif "/plan/" in key:
            yield from (("plan-track-1", json.loads(line)) for line in body.split("\n") if line)
        elif "/_vocalsep/runs/" in key:
            head, *rows = [json.loads(line) for line in body.split("\n") if line]
            yield "run-report-head-1", head
            yield from (("run-report-row-1", row) for row in rows)
