from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri

#: Names as people give them, and names that look like the ones we make.
NAMES = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["", ".", "..", "a", "A", "_x", "a b", "é", "🎵", "~", "a~0123456789abcdef"])
    ).map("/".join),
)


class TestAnS3Address:
    @pytest.mark.parametrize(
        "uri, expected",
        [
            ("s3://music", ("music", "")),
            ("s3://music/", ("music", "")),
            ("s3://music/a/b?c#d", ("music", "a/b?c#d")),
            (" S3://music/a ", ("music", "a")),
        ],
    )
    def test_is_split_into_bucket_and_key(self, uri: str, expected: tuple[str, str]) -> None:
        assert parse_s3_uri(uri) == expected

    @pytest.mark.parametrize("uri", ["", "music", "s3:/music", "s3://", "s3:///a", "gs://music/a", "/tmp/x"])
    def test_of_another_form_is_named_with_the_form_expected(self, uri: str) -> None:
        with pytest.raises(DestinationError, match="s3://bucket/prefix") as e:
            parse_s3_uri(uri)
        assert repr(uri) in str(e.value)


class TestASafeKey:
    @pytest.mark.parametrize("key", ["song-1", "Album_(1999)/01.intro!", "a..b", "0", "x" * 120])
    def test_is_the_name_itself_where_that_is_safe(self, key: str) -> None:
        assert safe_key(key) == key

    @pytest.mark.parametrize(
        "key, readable",
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
    def test_keeps_what_is_readable_of_any_other(self, key: str, readable: str) -> None:
        assert safe_key(key).startswith(readable)

    @given(NAMES, NAMES)
    def test_is_different_for_different_names(self, one: str, other: str) -> None:
        assert (safe_key(one) == safe_key(other)) == (one == other)

    @given(NAMES)
    def test_is_plain_and_bounded_and_stays_where_it_is_put(self, name: str) -> None:
        key = safe_key(name)
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key
        assert 0 < len(key) <= 600
        assert all(segment not in ("", ".", "..") for segment in key.split("/"))

    def test_can_be_made_of_a_badly_decoded_file_name(self) -> None:
        assert safe_key("a\udcff").startswith("a~")

    def test_of_very_many_segments_is_still_bounded(self) -> None:
        one, other = "a/" * 400 + "b", "a/" * 400 + "c"
        assert len(safe_key(one)) <= 600
        assert safe_key(one) != safe_key(other)


class TestAPlace:
    def test_names_stems_and_manifest(self) -> None:
        place = Location.parse("s3://music/stems/").stems("Album/Song 1", SeparationType.SEPARATE_VOCAL)
        assert place.bucket == "music"
        assert place.prefix == f"stems/{safe_key('Album/Song 1')}/separate_vocal"
        assert place.stem_key("vocals", "mp3") == f"{place.prefix}/vocals.mp3"
        assert place.manifest_uri == f"s3://music/{place.prefix}/manifest.json"

    def test_may_be_the_top_of_a_bucket(self) -> None:
        assert Location.parse("s3://music").stems("a", SeparationType.SPLIT_STEM).prefix == "a/split_stem"

    def test_of_two_stem_names_is_two_places(self) -> None:
        kick, lead = (
            Location.parse("s3://music").stems("a", SeparationType.SPLIT_STEM_ADVANCED, name)
            for name in ("Kick", "Lead Vocal")
        )
        assert kick.manifest_key == "a/split_stem_advanced/kick/manifest.json"
        assert lead.prefix == "a/split_stem_advanced/lead_vocal"

    def test_that_is_not_in_s3_is_refused_at_once(self) -> None:
        with pytest.raises(DestinationError, match="/data/stems"):
            Location.parse("/data/stems").stems("a", SeparationType.SPLIT_STEM)

    def test_keeps_a_strange_stem_name_inside(self) -> None:
        key = Location.parse("s3://music").stems("a", SeparationType.SPLIT_STEM).stem_key("../../x", "mp3")
        assert key.startswith("a/split_stem/")
        assert "/" not in key.removeprefix("a/split_stem/")
