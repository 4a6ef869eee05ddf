from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.catalogue.reader import CatalogueError, read_catalogue

HEADER = "key,title,task_id,audio_id,audio_url\n"


def csv(*rows: str):
    return read_catalogue([HEADER, *(f"{row}\n" for row in rows)], "s3://music/catalogue.csv")


def jsonl(*rows: object):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return read_catalogue(lines, "catalogue.jsonl")


class TestReading:
    def test_csv_and_json_lines_hold_the_same_tracks(self):
        one = csv("a/b,Ünïcode 🎵,t1,a1,", 'two,"A, B",,,https://h/x.wav').tracks
        other = jsonl(
            {"key": "a/b", "title": "Ünïcode 🎵", "task_id": "t1", "audio_id": "a1"},
            {"key": "two", "title": "A, B", "audio_url": "https://h/x.wav"},
        ).tracks
        assert one == other
        assert [t.label for t in one] == ["Ünïcode 🎵", "A, B"]

    def test_headers_in_any_case_with_a_byte_order_mark_and_extra_columns_are_fine(self):
        found = read_catalogue(["\ufeffKey , Task_ID,audio_id,label\n", "one,t,a,EMI\n"], "c.csv")
        assert [t.key for t in found.tracks] == ["one"]

    def test_numbers_as_keys_are_taken_as_text(self):
        assert jsonl({"key": 7, "task_id": "t", "audio_id": "a"}).tracks[0].key == "7"

    def test_an_empty_file_has_no_key_column_and_says_what_is_expected(self):
        with pytest.raises(CatalogueError, match="no column 'key'.*names its columns"):
            read_catalogue([], "c.csv")

    def test_a_header_alone_is_an_empty_catalogue(self):
        assert csv().tracks == []


class TestBadRows:
    def test_are_named_with_line_and_reason_and_lose_none_of_the_others(self):
        found = csv("one,,t,a,", "two,,t,,", "three,,t3,a3,", ",,t4,a4,", "five,,t,a,https://h/x")
        assert [t.key for t in found.tracks] == ["one", "three"]
        assert [line for line, _ in found.rejects] == [3, 5, 6]
        reasons = [reason for _, reason in found.rejects]
        assert "'two'" in reasons[0]
        assert "audio_id missing" in reasons[0]
        assert "key" in reasons[1]
        assert "not both" in reasons[2]

    def test_raise_together_and_say_that_nothing_was_submitted(self):
        with pytest.raises(CatalogueError) as e:
            csv("one,,t,a,", "two,,t,,").raise_for_rejects()
        assert "1 of 2 rows of s3://music/catalogue.csv" in str(e.value)
        assert "line 3" in str(e.value)
        assert "Nothing was submitted" in str(e.value)

    def test_by_the_thousand_are_counted(self):
        with pytest.raises(CatalogueError, match="and 980 more"):
            csv(*["x,,,,"] * 1000).raise_for_rejects()

    def test_in_json_lines_are_broken_json_and_what_is_no_mapping(self):
        found = jsonl({"key": "one", "task_id": "t", "audio_id": "a"}, "{broken", "[1]", "")
        assert [line for line, _ in found.rejects] == [2, 3]
        assert len(found.tracks) == 1


class TestATrackListedTwice:
    def test_is_used_once_and_reported(self):
        found = csv("one,,t,a,", "one,Another title,t,a,")
        assert len(found.tracks) == 1
        assert found.duplicates == [(3, "track 'one' is on line 2 already")]
        assert not found.rejects

    def test_with_other_audio_is_a_conflict(self):
        found = csv("one,,t,a,", "one,,t,b,")
        assert "another track on line 2" in found.rejects[0][1]

    def test_under_another_key_stays_two_tracks(self):
        """They land under two names; the ledger pays for the audio once."""
        assert [t.key for t in csv("one,,t,a,", "two,,t,a,").tracks] == ["one", "two"]
