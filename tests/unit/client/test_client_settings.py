from __future__ import annotations

import pytest

from airflow_provider_vocalsep.client.settings import AccountSettings, ConnectionSettingsError

SECRET = "0123456789abcdef"


def build(**fields) -> AccountSettings:
    return AccountSettings.build("vocalsep_default", **{"password": "key", **fields})


class TestBuild:
    def test_only_the_key_is_required(self):
        settings = build()

        assert (settings.dialect.name, settings.base_url) == ("sunoapi", "https://api.sunoapi.org")
        assert settings.account == "sunoapi"
        assert not settings.allow_private_hosts

    @pytest.mark.parametrize(
        "fields, url",
        [
            ({"host": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000"),
            ({"host": "127.0.0.1", "schema": "http", "port": 9000}, "http://127.0.0.1:9000"),
            ({"host": "api.example.com"}, "https://api.example.com"),
            ({"host": "https://proxy/vendor"}, "https://proxy/vendor"),
            ({"extra": {"dialect": "kie"}}, "https://api.kie.ai"),
        ],
    )
    def test_base_url_is_read_in_every_format(self, fields, url):
        assert build(**fields).base_url == url

    def test_hosts_and_flags_are_read_from_the_form_and_from_json(self):
        one = build(extra={"download_hosts": "A.com, *.b.org,", "allow_private_hosts": "true"})

        other = build(extra={"download_hosts": ["a.com", "*.b.org"], "allow_private_hosts": True})

        assert one == other
        assert one.download_hosts == ("a.com", "*.b.org")

    @pytest.mark.parametrize(
        "fields, message",
        [
            ({"password": None}, "'vocalsep_default' has no API key.*password field"),
            ({"extra": {"dialect": "udio"}}, "field dialect.*'udio'.*sunoapi, kie"),
            ({"extra": {"allow_private_hosts": "maybe"}}, "field allow_private_hosts.*'maybe'"),
            (
                {"extra": {"callback_base_url": "airflow", "callback_secret": SECRET}},
                "field callback_base_url.*'airflow'",
            ),
            (
                {"extra": {"callback_base_url": "https://a?b=c", "callback_secret": SECRET}},
                "field callback_base_url",
            ),
            ({"extra": {"callback_base_url": "https://a"}}, "no callback_secret.*openssl rand"),
            ({"extra": {"callback_secret": f"{SECRET}, short"}}, "field callback_secret.*at least 16"),
        ],
    )
    def test_error_names_the_invalid_field(self, fields, message):
        with pytest.raises(ConnectionSettingsError, match=message):
            build(**fields)

    def test_callback_url_and_secrets_are_read(self):
        settings = build(
            extra={"callback_base_url": " https://airflow/x/ ", "callback_secret": f"{SECRET}new, {SECRET}"}
        )

        assert settings.callback_base_url == "https://airflow/x"
        assert settings.callback_secrets == (f"{SECRET}new", SECRET)
        assert build().callback_base_url is None

    def test_repr_shows_no_secret(self):
        secrets = {"callback_secret": f"{SECRET}-callback", "webhook_hmac_key": "secret-hmac"}

        shown = repr(build(password="secret-key", extra={"callback_base_url": "https://a", **secrets}))

        assert not any(secret in shown for secret in ("secret-key", SECRET, "secret-hmac"))

    def test_rotated_key_keeps_the_account(self):
        assert build(password="old").account == build(password="new").account
