from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from airflow_provider_vocalsep.storage.keys import safe_key

#: Names of users, and names like rewritten ones.
NAMES = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["", ".", "..", "a", "A", "_x", "a b", "é", "🎵", "~", "a~0123456789abcdef"])
    ).map("/".join),
)


class TestSafeKey:
    @pytest.mark.parametrize("name", ["song-1", "Album_(1999)/01.intro!", "a..b", "0", "x" * 120])
    def test_safe_name_is_unchanged(self, name: str) -> None:
        assert safe_key(name) == name

    @pytest.mark.parametrize(
        "name, start",
        [
            ("My Song", "My-Song~"),
            ("Die Räuber/Ouvertüre", "Die-Rauber~"),
            ("🎵", "~"),
            ("..", "~"),
            (".", "~"),
            ("", "~"),
            ("_vocalsep", "vocalsep~"),
            ("x" * 121, "x" * 60 + "~"),
            ("a\x00b", "a-b~"),
        ],
        ids=["space", "umlauts", "emoji", "dots", "dot", "empty", "underscore", "long", "null"],
    )
    def test_other_name_keeps_its_readable_characters(self, name: str, start: str) -> None:
        assert safe_key(name).startswith(start)

    @given(NAMES, NAMES)
    def test_different_names_give_different_keys(self, one: str, other: str) -> None:
        assert (safe_key(one) == safe_key(other)) == (one == other)

    @given(NAMES)
    def test_key_is_printable_and_bounded_and_never_leaves_its_folder(self, name: str) -> None:
        key = safe_key(name)

        assert key.isascii()
        assert key.isprintable()
        assert " " not in key
        assert 0 < len(key) <= 600
        assert all(segment not in ("", ".", "..") for segment in key.split("/"))

    def test_badly_decoded_file_name_gives_a_key(self) -> None:
        assert safe_key("a\udcff").startswith("a~")

    def test_names_of_many_segments_give_bounded_and_different_keys(self) -> None:
        one, other = safe_key("a/" * 400 + "b"), safe_key("a/" * 400 + "c")

        assert len(one) <= 600
        assert one != other
