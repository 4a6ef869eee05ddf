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


class TestSubmitRequest:
    @pytest.mark.parametrize("separation_type", ["separate_vocal", "split_stem"])
    def test_generated_track_sends_its_two_ids(self, separation_type):
        assert submit(separation_type=SeparationType(separation_type)) == ApiRequest(
            "POST",
            "/api/v1/vocal-removal/generate",
            {},
            {"taskId": "t1", "audioId": "a1", "type": separation_type, "callBackUrl": CALLBACK},
        )

    def test_own_file_sends_its_url_and_no_ids(self):
        assert submit(OWN_FILE).json == {
            "audioUrl": "https://bucket.example/sun.mp3?X-Signature=a%2Fb",
            "type": "separate_vocal",
            "callBackUrl": CALLBACK,
        }

    def test_advanced_separation_sends_the_stem_name(self):
        request = submit(separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name=" Lead Vocal ")

        assert request.json["stemName"] == "Lead Vocal"
        assert request.json["type"] == "split_stem_advanced"

    def test_separation_type_is_sent_as_a_plain_string(self):
        assert type(submit().json["type"]) is str

    def test_s3_address_without_presigning_is_refused(self):
        with pytest.raises(TrackError, match="Track 'sun': the vendor cannot fetch 's3://b/sun.mp3'"):
            submit(Track(key="sun", audio_url="s3://b/sun.mp3"))

    @pytest.mark.parametrize("stem_name", [None, "", "  "])
    def test_advanced_separation_without_stem_name_is_refused(self, stem_name):
        with pytest.raises(
            TrackError, match="Track 'moon': split_stem_advanced needs a stem_name, for example"
        ):
            submit(separation_type=SeparationType.SPLIT_STEM_ADVANCED, stem_name=stem_name)

    @pytest.mark.parametrize("separation_type", ["separate_vocal", "split_stem"])
    def test_stem_name_of_another_separation_type_is_refused(self, separation_type):
        with pytest.raises(TrackError, match=f"Track 'moon': stem_name 'Bass' .* not with {separation_type}"):
            submit(separation_type=SeparationType(separation_type), stem_name="Bass")


class TestReadRequest:
    def test_record_is_read_by_the_id_of_the_separation_task(self):
        assert read_request("3e63") == ApiRequest(
            "GET", "/api/v1/vocal-removal/record-info", {"taskId": "3e63"}, None
        )


class TestCreditsRequest:
    @pytest.mark.parametrize(
        "dialect, path", [("sunoapi", "/api/v1/generate/credit"), ("kie", "/api/v1/chat/credit")]
    )
    def test_balance_is_read_at_the_path_of_the_dialect(self, dialect, path):
        assert credits_request(get_dialect(dialect)) == ApiRequest("GET", path)


def test_placeholder_callback_url_can_never_resolve():
    assert PLACEHOLDER_CALLBACK_URL == "https://callback.invalid/vocalsep"


class TestParseSeparationType:
    @pytest.mark.parametrize("name", ["separate_vocal", "split_stem", "split_stem_advanced"])
    def test_separation_type_is_parsed_by_name_and_prints_as_it(self, name):
        read = parse_separation_type(name)

        assert read is parse_separation_type(read)
        assert f"{read}" == name

    @pytest.mark.parametrize("value", ["vocals", "", "SPLIT_STEM", None, 2, ["split_stem"]], ids=repr)
    def test_unknown_separation_type_raises_with_the_known_ones(self, value):
        with pytest.raises(TrackError, match="write one of: separate_vocal, split_stem, split_stem_advanced"):
            parse_separation_type(value)


class TestSlugOf:
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
    def test_slug_is_lower_case_words(self, name, slug):
        assert slug_of(name) == slug

    def test_names_without_a_latin_letter_have_distinct_ascii_slugs(self):
        slugs = {slug_of(name) for name in ("ギター", "ドラム", "🥁", "\ud800")}

        assert len(slugs) == 4
        assert all(slug.startswith("stem_") and slug.isascii() for slug in slugs)
