from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.dialects import get_dialect
from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.requests import (
    PLACEHOLDER_CALLBACK_URL,
    ApiRequest,
    credits_request,
    parse_separation_type,
    read_request,
    slug_of,
    submit_request,
)
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType

GENERATED = Track(key="moon", task_id="t1", audio_id="a1")
OWN_FILE = Track(key="sun", audio_url="https://bucket.example/sun.mp3?X-Signature=a%2Fb")
CALLBACK = "https://airflow.example/vocalsep/callback/token"


def submit(track=GENERATED, separation_type=SeparationType.SEPARATE_VOCAL, stem_name=None) -> ApiRequest:
    return submit_request(track, separation_type, stem_name=stem_name, callback_url=CALLBACK)


class TestSubmit:
    @pytest.mark.parametrize("separation_type", ["separate_vocal", "split_stem"])
    def test_of_a_generated_track_sends_its_two_ids(self, separation_type):
        assert submit(separation_type=SeparationType(separation_type)) == ApiRequest(
            "POST",
            "/api/v1/vocal-removal/generate",
            {},
            {"taskId": "t1", "audioId": "a1", "type": separation_type, "callBackUrl": CALLBACK},
        )

    def test_of_an_own_file_sends_its_address_and_no_ids(self):
        assert submit(OWN_FILE).json == {
            "audioUrl": "https://bucket.example/sun.mp3?X-Signature=a%2Fb",
            "type": "separate_vocal",
            "callBackUrl": CALLBACK,
        }

    def test_of_advanced_stems_sends_the_stem_name(self):
        request = submit(separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name=" Lead Vocal ")
        assert request.json["stemName"] == "Lead Vocal"
        assert request.json["type"] == "split_stem_advanced"

    def test_sends_plain_strings_that_any_json_writer_takes(self):
        assert type(submit().json["type"]) is str

    def test_refuses_an_s3_address_that_nobody_presigned(self):
        with pytest.raises(TrackError, match="Track 'sun': the vendor cannot fetch 's3://b/sun.mp3'"):
            submit(Track(key="sun", audio_url="s3://b/sun.mp3"))

    @pytest.mark.parametrize("stem_name", [None, "", "  "])
    def test_of_advanced_stems_needs_a_stem_name(self, stem_name):
        with pytest.raises(
            TrackError, match="Track 'moon': split_stem_advanced needs a stem_name, for example"
        ):
            submit(separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name=stem_name)

    @pytest.mark.parametrize("separation_type", ["separate_vocal", "split_stem"])
    def test_refuses_a_stem_name_that_would_be_ignored(self, separation_type):
        with pytest.raises(TrackError, match=f"Track 'moon': stem_name 'Bass' .* not with {separation_type}"):
            submit(separation_type=SeparationType(separation_type), stem_name="Bass")


class TestReads:
    def test_of_a_record_names_the_separation_task(self):
        assert read_request("3e63") == ApiRequest(
            "GET", "/api/v1/vocal-removal/record-info", {"taskId": "3e63"}, None
        )

    @pytest.mark.parametrize(
        "dialect, path", [("sunoapi", "/api/v1/generate/credit"), ("kie", "/api/v1/chat/credit")]
    )
    def test_of_the_balance_goes_where_the_vendor_keeps_it(self, dialect, path):
        assert credits_request(get_dialect(dialect)) == ApiRequest("GET", path)


def test_the_placeholder_callback_can_never_resolve():
    assert PLACEHOLDER_CALLBACK_URL == "https://callback.invalid/vocalsep"


class TestSeparationTypes:
    @pytest.mark.parametrize("name", ["separate_vocal", "split_stem", "split_stem_advanced"])
    def test_are_read_by_name_and_print_as_it(self, name):
        read = parse_separation_type(name)
        assert read is parse_separation_type(read)
        assert f"{read}" == name

    @pytest.mark.parametrize("value", ["vocals", "", "SPLIT_STEM", None, 2, ["split_stem"]], ids=repr)
    def test_an_unknown_one_is_told_the_three(self, value):
        with pytest.raises(TrackError, match="write one of: separate_vocal, split_stem, split_stem_advanced"):
            parse_separation_type(value)


class TestSlugs:
    @pytest.mark.parametrize(
        "name, slug",
        [
            ("Lead Vocal", "lead_vocal"),
            ("Hi-Hat", "hi_hat"),
            ("808", "808"),
            ("  Bass  ", "bass"),
            ("Señor / Ärger", "senor_arger"),
            ("../../etc", "etc"),
            ("", "stem"),
            ("   ", "stem"),
        ],
    )
    def test_are_lower_case_words(self, name, slug):
        assert slug_of(name) == slug

    def test_of_names_without_a_latin_letter_are_safe_and_distinct(self):
        slugs = {slug_of(name) for name in ("ギター", "ドラム", "🥁", "\ud800")}
        assert len(slugs) == 4
        assert all(slug.startswith("stem_") and slug.isascii() for slug in slugs)
