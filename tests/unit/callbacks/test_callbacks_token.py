"""Tokens: a token that the provider signed is accepted, and nothing else."""

from __future__ import annotations

import base64
import json
from dataclasses import astuple, replace

import pytest
from hypothesis import given, strategies as st

from airflow_provider_vocalsep.callbacks.token import (
    MAX_TOKEN_LENGTH,
    CallbackClaims,
    TokenError,
    mint,
    parse_unverified,
    verify,
)

SECRET = "s" * 32
OLD = "o" * 32
NOW = 1_795_000_000.0
CLAIMS = CallbackClaims(
    "vocalsep_default", "dag/ä 🎵", "manual__2026-11-23", "separate", 7, "a" * 32, int(NOW) + 60
)

text = st.text(max_size=250)
any_claims = st.builds(
    CallbackClaims, text, text, text, text, st.integers(-1, 10**6), text, st.integers(int(NOW), 2**40)
)


def sign(payload: object, secret: str = SECRET) -> str:
    """Sign any payload with the secret, as an older or broken version of the provider could have."""
    import hashlib
    import hmac

    encoded = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    digest = hmac.new(secret.encode(), f"vocalsep-callback:{encoded}".encode(), hashlib.sha256).digest()
    return f"{encoded}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


class TestVerify:
    @given(any_claims)
    def test_minted_token_is_verified_with_its_claims(self, claims):
        assert verify(mint(claims, SECRET), [SECRET], now=NOW) == claims

    def test_minted_token_needs_no_escaping_in_a_url(self):
        assert set(mint(CLAIMS, SECRET)) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
        )

    def test_token_with_the_longest_names_of_airflow_is_not_too_long(self):
        long = replace(CLAIMS, conn_id="x" * 250, dag_id="ä" * 250, run_id="x" * 250, task_id="x" * 250)

        assert len(mint(long, SECRET)) <= MAX_TOKEN_LENGTH
        assert verify(mint(long, SECRET), [SECRET], now=NOW) == long

    def test_token_of_the_old_secret_is_valid_during_a_rotation(self):
        assert verify(mint(CLAIMS, OLD), [SECRET, OLD], now=NOW) == CLAIMS

    def test_token_is_valid_until_it_expires(self):
        token = mint(CLAIMS, SECRET)

        assert verify(token, [SECRET], now=CLAIMS.expires)
        with pytest.raises(TokenError, match="expired"):
            verify(token, [SECRET], now=CLAIMS.expires + 1)

    @pytest.mark.parametrize("secrets", [[OLD], [SECRET + "x"], []])
    def test_token_of_another_secret_is_refused(self, secrets):
        with pytest.raises(TokenError, match="wrong signature"):
            verify(mint(CLAIMS, SECRET), secrets, now=NOW)

    @pytest.mark.parametrize(
        "field", ["conn_id", "dag_id", "run_id", "task_id", "map_index", "attempt_id", "expires"]
    )
    def test_other_claims_under_the_same_signature_are_refused(self, field):
        value = getattr(CLAIMS, field)
        other = replace(CLAIMS, **{field: value + 1 if isinstance(value, int) else value + "x"})
        swapped = f"{mint(other, SECRET).partition('.')[0]}.{mint(CLAIMS, SECRET).partition('.')[2]}"

        with pytest.raises(TokenError, match="wrong signature"):
            verify(swapped, [SECRET], now=NOW)

    @given(st.data())
    def test_token_with_one_changed_character_is_refused(self, data):
        token = mint(CLAIMS, SECRET)
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.sampled_from("AZaz09-_.=+/ %é"))
        if other != token[place]:
            with pytest.raises(TokenError):
                verify(token[:place] + other + token[place + 1 :], [SECRET], now=NOW)

    @given(st.integers(0, 400))
    def test_truncated_token_is_refused(self, length):
        token = mint(CLAIMS, SECRET)

        with pytest.raises(TokenError):
            verify(token[: min(length, len(token) - 1)], [SECRET], now=NOW)

    @given(st.text(max_size=300))
    def test_any_text_is_refused_with_a_token_error(self, anything):
        with pytest.raises(TokenError):
            verify(anything, [SECRET], now=NOW)

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            {},
            "x",
            [],
            [1],
            [2, *astuple(CLAIMS)],
            [1, *astuple(CLAIMS), "more"],
            [1, "c", "d", "r", "t", "7", "a", 9e9],
            [1, "c", "d", "r", "t", True, "a", 9_000_000_000],
            [1, None, "d", "r", "t", 7, "a", 9_000_000_000],
        ],
    )
    def test_payload_of_another_shape_is_refused_despite_a_valid_signature(self, payload):
        with pytest.raises(TokenError, match="unreadable"):
            verify(sign(payload), [SECRET], now=NOW)


class TestParseUnverified:
    def test_deeply_nested_payload_is_refused(self):
        deep = base64.urlsafe_b64encode(b"[" * 2000 + b"]" * 2000).decode()

        with pytest.raises(TokenError):
            parse_unverified(f"{deep[: MAX_TOKEN_LENGTH - 2]}.x")

    def test_too_long_token_is_refused_without_parsing(self):
        with pytest.raises(TokenError, match="not a token"):
            parse_unverified("a" * MAX_TOKEN_LENGTH + ".b")
