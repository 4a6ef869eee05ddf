"""The JSON Schemas of the files in the bucket."""

from __future__ import annotations

import json

import jsonschema
import pytest
from audit_world import BY_HAND

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.audit.schemas import NAMES, load_schema
from airflow_provider_vocalsep.audit.schemas.write import MODELS, text_of
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger import entry
from airflow_provider_vocalsep.runs import report


@pytest.mark.parametrize("name", NAMES)
class TestASchema:
    def test_says_what_its_model_says(self, name):
        assert load_schema(name) == json.loads(text_of(name)), "run `make schemas`"

    def test_is_one(self, name):
        jsonschema.Draft202012Validator.check_schema(load_schema(name))
        assert load_schema(name)["$id"] == f"urn:airflow-provider-vocalsep:{name}"

    def test_explains_every_field(self, name):
        schema = load_schema(name)
        for part in [schema, *schema.get("$defs", {}).values()]:
            assert part["description"]
            for field, said in part.get("properties", {}).items():
                assert said.get("description"), f"{field} of {part['title']}"
                assert "`" not in said["description"]


def test_there_is_one_for_every_file_and_version():
    assert set(NAMES) == set(MODELS)
    versions = {"ledger-entry": entry.SCHEMA_VERSION, "run-report-head": report.SCHEMA_VERSION}
    versions["manifest"] = Manifest.model_fields["schema_version"].default
    assert all(f"{name}-{version}" in NAMES for name, version in versions.items())


def test_what_is_written_validates(world):
    rows = [
        world.land("one", title="One 🎵"),
        world.fail("two", verdict=Verdict.REFUNDED),
        world.doubt("three"),
    ]
    world.call_back("two", count=3)
    world.report([*rows, world.left("four")])
    world.report([world.land("five", BY_HAND)], BY_HAND)
    world.plan([world.track("one", title="One 🎵"), world.track("two", duration=1.5)])
    checked = dict.fromkeys(NAMES, 0)
    for name, value in files(world):
        jsonschema.validate(value, load_schema(name), jsonschema.Draft202012Validator)
        checked[name] += 1
    assert checked == {
        "ledger-entry-1": 4, "manifest-1": 2, "run-report-head-1": 2, "run-report-row-1": 5, "plan-track-1": 2,
    }  # fmt: skip


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
def test_what_is_wrong_does_not(world, name, change):
    world.report([world.land("one")])
    value = dict(files(world))[name]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**value, **change}, load_schema(name))


def files(world):
    for key in sorted(world.keys()):
        body = world.client.get_object(Bucket="stems", Key=key)["Body"].read().decode()
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
