"""Declarations that Airflow reads: provider info, connection form, template fields, links, retry policy."""

from __future__ import annotations

import importlib
import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import airflow
import jsonschema
import pytest

from airflow_provider_vocalsep import __version__
from airflow_provider_vocalsep.api.errors import SeparationFailedError, TrackError, VendorError, Verdict
from airflow_provider_vocalsep.get_provider_info import get_provider_info
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator
from airflow_provider_vocalsep.retries import VocalSepRetryPolicy
from airflow_provider_vocalsep.sensors.vocal_separation import VocalSeparationSensor
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.transfers.vocal_separation_to_s3 import VocalSeparationToS3Operator

#: Arguments that are not rendered.
NOT_TEMPLATED = {
    *("wait_for_completion", "deferrable", "max_submissions", "replace", "fail_on_failed_task"),
    *("poke_interval", "kwargs", "self"),
}

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]


class TestProviderInfo:
    def test_provider_info_matches_airflows_schema(self):
        schema = Path(airflow.__file__).parent / "provider_info.schema.json"
        jsonschema.validate(INFO, json.loads(schema.read_text()))

    def test_every_named_module_and_class_exists(self):
        named = [
            module
            for kind in ("hooks", "operators", "sensors", "triggers")
            for group in INFO[kind]
            for module in group["python-modules"]
        ]
        named += [transfer["python-module"] for transfer in INFO["transfers"]]
        classes = [*INFO["extra-links"], CONNECTION["hook-class-name"]]

        for module in named:
            importlib.import_module(module)
        for path in classes:
            module, name = path.rsplit(".", 1)
            assert inspect.isclass(getattr(importlib.import_module(module), name))
        assert len(named) >= 6

    @pytest.mark.parametrize("group", ["apache_airflow_provider", "airflow.plugins", "console_scripts"])
    def test_entry_point_is_found(self, group):
        ours = [e for e in entry_points(group=group) if e.value.startswith("airflow_provider_vocalsep")]
        assert len(ours) == 1
        assert ours[0].load() is not None

    def test_version_is_that_of_the_distribution(self):
        project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
        assert f'version = "{__version__}"' in project or "dynamic" in project


class TestConnectionForm:
    @pytest.mark.parametrize("name", list(CONNECTION["conn-fields"]))
    def test_every_field_has_a_label_and_a_description(self, name):
        field = CONNECTION["conn-fields"][name]
        assert field["label"]
        assert field["description"].endswith(".")
        assert "null" in field["schema"]["type"], "the form must take an empty field"

    def test_secret_fields_are_hidden(self):
        secret = {
            name for name, f in CONNECTION["conn-fields"].items() if f["schema"].get("format") == "password"
        }
        assert secret == {"callback_secret", "webhook_hmac_secret"}

    def test_secret_fields_have_names_that_airflow_masks(self):
        masker = pytest.importorskip("airflow._shared.secrets_masker")
        for name, field in CONNECTION["conn-fields"].items():
            is_secret = field["schema"].get("format") == "password"
            assert masker.should_hide_value_for_key(name) is is_secret

    def test_every_field_is_read_by_the_account_settings(self):
        from airflow_provider_vocalsep.client import settings

        source = inspect.getsource(settings)
        for name in CONNECTION["conn-fields"]:
            assert f'extra.get("{name}")' in source

    def test_form_belongs_to_the_hook(self):
        assert CONNECTION["connection-type"] == VocalSeparationHook.conn_type
        assert CONNECTION["hook-name"] == VocalSeparationHook.hook_name


class TestTemplateFields:
    @pytest.mark.parametrize(
        "operator",
        [VocalSeparationOperator, VocalSeparationSensor, VocalSeparationToS3Operator],
        ids=lambda c: c.__name__,
    )
    def test_every_argument_that_a_user_may_compute_is_templated(self, operator):
        arguments = set(inspect.signature(operator.__init__).parameters) - NOT_TEMPLATED

        assert arguments == set(operator.template_fields)


class TestTestConnection:
    def test_working_connection_shows_the_balance(self, vendor):
        ok, message = VocalSeparationHook().test_connection()

        assert ok
        assert f"{vendor.totals()['credits']:g} credits" in message

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"password": "wrong"}, "API key"),
            ({"password": ""}, "no API key"),
            ({"host": "http://127.0.0.1:1"}, "Could not connect"),
        ],
    )
    def test_broken_connection_shows_the_reason(self, connect, monkeypatch, changes, says):
        monkeypatch.setattr("airflow_provider_vocalsep.client.blocking._READ_TRIES", 1)
        connect(**changes)

        ok, message = VocalSeparationHook().test_connection()

        assert not ok
        assert says in message


class TestRetryPolicy:
    def evaluate(self, error):
        return VocalSepRetryPolicy().evaluate(error, 1, 3)

    @pytest.mark.parametrize(
        "error",
        [
            TrackError("wrong"),
            VendorError("no credits", verdict=Verdict.OUT_OF_CREDITS),
            SeparationFailedError("451", verdict=Verdict.FATAL),
        ],
    )
    def test_permanent_error_fails_with_its_message(self, error):
        decision = self.evaluate(error)

        assert decision.action.name == "FAIL"
        assert decision.reason == str(error)

    def test_transient_error_is_retried_after_the_time_that_the_vendor_asks_for(self):
        decision = self.evaluate(VendorError("too fast", verdict=Verdict.WAIT, retry_after=42))

        assert decision.action.name == "RETRY"
        assert decision.retry_delay.total_seconds() == 42

    def test_other_error_is_left_to_airflow(self):
        assert self.evaluate(KeyError("x")).action.name == "DEFAULT"


class TestConsoleUrl:
    @pytest.mark.parametrize(
        ("endpoint", "link"),
        [
            (
                "https://s3.eu-west-1.amazonaws.com",
                "https://eu-west-1.console.aws.amazon.com/s3/buckets/stems?prefix=a%20b/",
            ),
            ("http://127.0.0.1:8333", "http://127.0.0.1:8333/stems/a%20b/"),
        ],
    )
    def test_url_opens_the_folder_in_the_console_of_aws_or_at_the_endpoint(self, endpoint, link):
        client = SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint, region_name="eu-west-1"))

        assert ObjectStore(client).console_url(Location("stems", "a b")) == link
