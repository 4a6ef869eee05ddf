"""Tokens: what we made is believed, and nothing else whatever."""

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
    claims_of,
    mint,
    verify,
)

SECRET = "s" * 32
OLD = "o" * 32
NOW = 1_795_000_000.0
CLAIMS = CallbackClaims(
    "vocalsep_default", "dag/ä 🎵", "manual__2026-11-23", "separate", 7, "a" * 32, int(NOW) + 60
)

text = st.text(max_size=250)
claims = st.builds(
    CallbackClaims, text, text, text, text, st.integers(-1, 10**6), text, st.integers(int(NOW), 2**40)
)


def sign_as_we_do(payload: object, secret: str = SECRET) -> str:
    """Forge with the secret known: what an older or broken version of ours could have signed."""
    import hashlib
    import hmac

    encoded = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    digest = hmac.new(secret.encode(), f"vocalsep-callback:{encoded}".encode(), hashlib.sha256).digest()
    return f"{encoded}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


class TestAToken:
    @given(claims)
    def test_says_after_the_way_what_it_said_before(self, said):
        assert verify(mint(said, SECRET), [SECRET], now=NOW) == said

    def test_goes_through_an_address_as_it_is(self):
        assert set(mint(CLAIMS, SECRET)) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
        )

    def test_with_the_longest_names_that_airflow_takes_is_not_too_long(self):
        long = replace(CLAIMS, conn_id="x" * 250, dag_id="ä" * 250, run_id="x" * 250, task_id="x" * 250)
        assert len(mint(long, SECRET)) <= MAX_TOKEN_LENGTH
        assert verify(mint(long, SECRET), [SECRET], now=NOW) == long

    def test_signed_with_the_old_secret_counts_during_a_rotation(self):
        assert verify(mint(CLAIMS, OLD), [SECRET, OLD], now=NOW) == CLAIMS

    def test_counts_until_it_expires(self):
        token = mint(CLAIMS, SECRET)
        assert verify(token, [SECRET], now=CLAIMS.expires)
        with pytest.raises(TokenError, match="expired"):
            verify(token, [SECRET], now=CLAIMS.expires + 1)


class TestAnotherToken:
    @pytest.mark.parametrize("secrets", [[OLD], [SECRET + "x"], []])
    def test_of_another_secret_is_refused(self, secrets):
        with pytest.raises(TokenError, match="wrong signature"):
            verify(mint(CLAIMS, SECRET), secrets, now=NOW)

    @pytest.mark.parametrize(
        "field", ["conn_id", "dag_id", "run_id", "task_id", "map_index", "attempt_id", "expires"]
    )
    def test_that_says_something_else_under_the_same_signature_is_refused(self, field):
        value = getattr(CLAIMS, field)
        other = replace(CLAIMS, **{field: value + 1 if isinstance(value, int) else value + "x"})
        swapped = f"{mint(other, SECRET).partition('.')[0]}.{mint(CLAIMS, SECRET).partition('.')[2]}"
        with pytest.raises(TokenError, match="wrong signature"):
            verify(swapped, [SECRET], now=NOW)

    @given(st.data())
    def test_changed_in_one_character_is_refused(self, data):
        token = mint(CLAIMS, SECRET)
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.sampled_from("AZaz09-_.=+/ %é"))
        if other != token[place]:
            with pytest.raises(TokenError):
                verify(token[:place] + other + token[place + 1 :], [SECRET], now=NOW)

    @given(st.integers(0, 400))
    def test_cut_short_is_refused(self, length):
        token = mint(CLAIMS, SECRET)
        with pytest.raises(TokenError):
            verify(token[: min(length, len(token) - 1)], [SECRET], now=NOW)

    @given(st.text(max_size=300))
    def test_that_is_any_text_is_refused_and_nothing_else_is_raised(self, anything):
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
    def test_of_another_shape_is_refused_even_with_our_signature(self, payload):
        with pytest.raises(TokenError, match="unreadable"):
            verify(sign_as_we_do(payload), [SECRET], now=NOW)

    def test_nested_a_thousand_deep_is_refused(self):
        deep = base64.urlsafe_b64encode(b"[" * 2000 + b"]" * 2000).decode()
        with pytest.raises(TokenError):
            claims_of(f"{deep[: MAX_TOKEN_LENGTH - 2]}.x")

    def test_that_is_too_long_is_refused_unread(self):
        with pytest.raises(TokenError, match="not a token"):
            claims_of("a" * MAX_TOKEN_LENGTH + ".b")
