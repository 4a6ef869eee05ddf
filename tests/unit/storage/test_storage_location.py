from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.keys import safe_key
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri, run_key


class TestParseS3Uri:
    @pytest.mark.parametrize(
        "uri, expected",
        [
            ("s3://music", ("music", "")),
            ("s3://music/", ("music", "")),
            ("s3://music/a/b?c#d", ("music", "a/b?c#d")),
            (" S3://music/a ", ("music", "a")),
        ],
    )
    def test_address_is_split_into_bucket_and_key(self, uri: str, expected: tuple[str, str]) -> None:
        assert parse_s3_uri(uri) == expected

    @pytest.mark.parametrize("uri", ["", "music", "s3:/music", "s3://", "s3:///a", "gs://music/a", "/tmp/x"])
    def test_error_names_a_malformed_address_and_the_expected_form(self, uri: str) -> None:
        with pytest.raises(DestinationError, match="s3://bucket/prefix") as e:
            parse_s3_uri(uri)

        assert repr(uri) in str(e.value)


class TestLocation:
    @pytest.mark.parametrize(
        "uri, expected",
        [
            ("s3://music/stems/", ("stems", "s3://music/stems", "stems/")),
            ("s3://music", ("", "s3://music", "")),
        ],
        ids=["prefix", "whole bucket"],
    )
    def test_uri_has_no_slash_at_its_end_and_listing_prefix_has_one(
        self, uri: str, expected: tuple[str, str, str]
    ) -> None:
        location = Location.parse(uri)

        assert (location.prefix, location.uri, location.listing_prefix) == expected

    def test_address_outside_s3_is_refused(self) -> None:
        with pytest.raises(DestinationError, match="/data/stems"):
            Location.parse("/data/stems")

    def test_ledger_and_runs_are_in_the_internal_folder(self) -> None:
        location = Location.parse("s3://music/stems")

        assert location.ledger.uri == "s3://music/stems/_vocalsep/ledger"
        assert location.runs.uri == "s3://music/stems/_vocalsep/runs"

    def test_run_folder_has_a_safe_key(self) -> None:
        folder = Location.parse("s3://music").run_folder(
            "dag", "manual__2026-01-01T00:00:00+00:00", "group.task"
        )

        run = safe_key("manual__2026-01-01T00:00:00+00:00")
        assert folder.prefix == f"_vocalsep/runs/dag/{run}/group.task"
        assert run_key("dag", "manual__2026-01-01T00:00:00+00:00") == f"dag/{run}"

    @pytest.mark.parametrize(
        "key, expected",
        [
            ("stems/song/separate_vocal/manifest.json", True),
            ("stems/song/separate_vocal/vocals.mp3", False),
            ("stems/_vocalsep/runs/dag/run/task/manifest.json", False),
        ],
    )
    def test_is_manifest_is_true_only_outside_the_internal_folder(self, key: str, expected: bool) -> None:
        assert Location.parse("s3://music/stems").is_manifest(key) is expected


class TestKeyOf:
    def test_address_in_the_folder_has_a_key(self) -> None:
        assert Location.parse("s3://music/stems").key_of("s3://music/stems/a/b.mp3") == "stems/a/b.mp3"

    def test_address_in_a_whole_bucket_has_a_key(self) -> None:
        assert Location.parse("s3://music").key_of("s3://music/a.mp3") == "a.mp3"

    @pytest.mark.parametrize(
        "uri",
        [
            None,
            "",
            "https://music/stems/a",
            "s3://other/stems/a",
            "s3://music/a",
            "s3://music/stems-of-others/a",
            "s3://music/stems/",
            "s3://music/stems/../secret",
            "s3://music/stems/./a",
            "s3://music/stems//a",
        ],
    )
    def test_address_outside_the_folder_has_no_key(self, uri: str | None) -> None:
        assert Location.parse("s3://music/stems").key_of(uri) is None


class TestStemLocation:
    def test_stems_and_manifest_are_in_the_folder_of_track_and_separation_type(self) -> None:
        location = Location.parse("s3://music/stems/").stems("Album/Song 1", SeparationType.SEPARATE_VOCAL)

        assert location.bucket == "music"
        assert location.prefix == f"stems/{safe_key('Album/Song 1')}/separate_vocal"
        assert location.stem_key("vocals", "mp3") == f"{location.prefix}/vocals.mp3"
        assert location.manifest_uri == f"s3://music/{location.prefix}/manifest.json"

    def test_destination_may_be_a_whole_bucket(self) -> None:
        assert Location.parse("s3://music").stems("a", SeparationType.SPLIT_STEM).prefix == "a/split_stem"

    def test_each_stem_name_of_split_stem_advanced_has_its_own_folder(self) -> None:
        base = Location.parse("s3://music")

        kick = base.stems("a", SeparationType.SPLIT_STEM_ADVANCED, "Kick")
        lead = base.stems("a", SeparationType.SPLIT_STEM_ADVANCED, "Lead Vocal")

        assert kick.manifest_key == "a/split_stem_advanced/kick/manifest.json"
        assert lead.prefix == "a/split_stem_advanced/lead_vocal"

    def test_unsafe_stem_name_stays_in_the_folder(self) -> None:
        key = Location.parse("s3://music").stems("a", SeparationType.SPLIT_STEM).stem_key("../../x", "mp3")

        assert key.startswith("a/split_stem/")
        assert "/" not in key.removeprefix("a/split_stem/")
