from __future__ import annotations

import copy
from datetime import datetime, timezone

import api_examples as examples
import pytest
from api_examples import TWELVE, body, detail, envelope, stem_id, stem_url

from airflow_provider_vocalsep.api.answers import parse_record
from airflow_provider_vocalsep.api.dialects import DIALECTS, get_dialect
from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    UnreadableAnswerError,
    VendorError,
    Verdict,
)
from airflow_provider_vocalsep.api.models import StemLink
from airflow_provider_vocalsep.api.vocabulary import Stem, TaskStatus

SUNOAPI, KIE = get_dialect("sunoapi"), get_dialect("kie")
both_vendors = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


def read(record, dialect=KIE):
    return parse_record(200, body(envelope(record)), dialect)


def read_response(response):
    return read({**examples.RECORD_TWO_STEMS, "response": response}).stems


def links(stems):
    return {stem.name: stem.url for stem in stems}


@both_vendors
class TestParseRecordOfBothVendors:
    def test_two_stems_are_parsed(self, dialect):
        task = read(examples.RECORD_TWO_STEMS, dialect)

        assert task.task_id == examples.TWO_STEMS_ID
        assert task.status is TaskStatus.SUCCESS
        assert task.finished
        assert task.music_id == examples.MUSIC_ID
        assert task.created_at == utc(2025, 7, 29, 9, 54, 14)
        assert task.completed_at == utc(2025, 7, 29, 9, 55, 37)
        assert (task.error_code, task.error_message) == (None, None)
        assert task.present == (
            StemLink("vocals", stem_url(0, "Vocals"), stem_id(0), 245.6),
            StemLink("instrumental", stem_url(1, "Instrumental"), stem_id(1), 245.6),
        )
        assert task.raw == examples.RECORD_TWO_STEMS

    def test_record_of_two_stems_names_the_other_stems_without_url(self, dialect):
        assert [stem.name for stem in read(examples.RECORD_TWO_STEMS, dialect).stems] == [
            str(s) for s in Stem
        ]

    def test_twelve_stems_are_parsed(self, dialect):
        task = read(examples.RECORD_TWELVE_STEMS, dialect)

        assert links(task.present) == {row[4]: stem_url(number, row[3]) for number, row in enumerate(TWELVE)}
        assert (task.completed_at - task.created_at).total_seconds() == 132

        described = {stem.name: (stem.audio_id, stem.duration) for stem in task.present if stem.audio_id}
        assert described == {
            "keyboard": (stem_id(5), 312.4),
            "percussion": (stem_id(6), 312.4),
            "strings": (stem_id(7), 312.4),
            "synth": (stem_id(8), 312.4),
        }

    def test_advanced_stems_are_a_pair_with_encoded_spaces(self, dialect):
        assert read(examples.RECORD_ADVANCED, dialect).stems == (
            StemLink("lead_vocal_extract", stem_url(0, "Lead%20Vocal"), stem_id(0), 200.1),
            StemLink("lead_vocal_remove", stem_url(1, "No%20Lead%20Vocal"), stem_id(1), 200.1),
        )

    def test_pending_task_is_neither_finished_nor_failed(self, dialect):
        task = read(examples.RECORD_PENDING, dialect)

        assert (task.status, task.stems, task.completed_at) == (TaskStatus.PENDING, (), None)
        assert not task.finished
        assert not task.failed

    def test_failed_task_has_code_and_message(self, dialect):
        task = read(examples.RECORD_FAILED, dialect)

        assert (task.status, task.error_code, task.error_message) == (
            TaskStatus.GENERATE_AUDIO_FAILED,
            500,
            "Vocal separation failed",
        )
        assert task.failed

    def test_unknown_task_is_none(self, dialect):
        assert parse_record(200, examples.RECORDED_UNKNOWN_TASK, dialect) is None
        assert parse_record(200, b'{"code":200,"msg":"success"}', dialect) is None

    @pytest.mark.parametrize("flag", [str(s) for s in TaskStatus])
    def test_every_status_is_known(self, dialect, flag):
        assert read({**examples.RECORD_TWO_STEMS, "successFlag": flag}, dialect).status.value == flag


class TestStemsOf:
    @pytest.mark.parametrize(
        "response",
        [
            None,
            {},
            {"id": None, "originUrl": "https://cdn1.suno.ai/origin.mp3", "originData": None},
            {"originUrl": None, "originData": []},
            [],
            "",
            0,
        ],
        ids=repr,
    )
    def test_response_without_stems_yields_none(self, response):
        assert read_response(response) == ()

    def test_missing_response_yields_no_stems(self):
        record = {k: v for k, v in examples.RECORD_PENDING.items() if k != "response"}

        assert read(record).stems == ()

    @pytest.mark.parametrize("empty", [None, ""], ids=repr)
    def test_empty_keys_yield_stems_without_url(self, empty):
        stems = read_response(dict.fromkeys(examples.ALL_RECORD_KEYS, empty))

        assert [stem.name for stem in stems] == [str(s) for s in Stem]
        assert {stem.url for stem in stems} == {None}

    def test_origin_data_alone_yields_all_stems(self):
        stems = read_response(
            {"originData": [detail(p, row[2], row[3], 9.5) for p, row in enumerate(TWELVE)]}
        )

        assert links(stems) == {row[4]: stem_url(p, row[3]) for p, row in enumerate(TWELVE)}
        assert {stem.duration for stem in stems} == {9.5}

    def test_origin_data_with_an_unknown_group_name_describes_the_stem_with_its_link(self):
        for group in ("人声", "Vocal", None, 7):
            item = {**detail(0, "", "Vocals", 3.0), "stem_type_group_name": group}
            assert read_response({"vocalUrl": stem_url(0, "Vocals"), "originData": [item]}) == (
                StemLink("vocals", stem_url(0, "Vocals"), stem_id(0), 3.0),
            )

    @pytest.mark.parametrize(
        "group", ["Backing Vocals", "backing_vocals", "Backing_Vocals", " BACKING VOCALS "]
    )
    def test_group_name_is_known_in_every_spelling(self, group):
        (stem,) = read_response({"originData": [detail(0, group, "x", 1.0)]})

        assert stem.name == "backing_vocals"

    def test_origin_data_fills_a_link_that_the_flat_keys_leave_empty(self):
        (stem,) = read_response({"drumsUrl": "", "originData": [detail(0, "Drums", "Drums", 1.0)]})

        assert stem == StemLink("drums", stem_url(0, "Drums"), stem_id(0), 1.0)

    def test_origin_data_never_overrides_a_flat_link(self):
        (stem,) = read_response({"drumsUrl": "https://h/d.mp3", "originData": [detail(0, "Drums", "x", 1.0)]})

        assert (stem.url, stem.audio_id) == ("https://h/d.mp3", stem_id(0))

    def test_new_group_name_becomes_a_new_stem(self):
        (stem,) = read_response({"originData": [detail(0, "Steel Drums", "x", 1.0)]})

        assert stem.name == "steel_drums"

    @pytest.mark.parametrize(
        "items", [None, {}, "x", 5, [None, 1, "x", [], {}, {"audio_url": "https://h/x"}]], ids=repr
    )
    def test_invalid_origin_data_is_ignored(self, items):
        assert links(read_response({"vocalUrl": "https://h/v.mp3", "originData": items})) == {
            "vocals": "https://h/v.mp3"
        }

    @pytest.mark.parametrize(
        "duration", [None, "245.6", True, -1, 0, 1e300, float("nan"), float("inf")], ids=repr
    )
    def test_invalid_duration_is_none(self, duration):
        (stem,) = read_response({"originData": [detail(0, "Bass", "Bass", duration)]})

        assert stem.duration is None

    def test_advanced_pair_is_named_after_the_first_side_with_a_group_name(self):
        pair = {"extract": {"audio_url": "https://h/e.mp3"}, "remove": detail(0, "Kick", "x", 1.0)}

        assert set(links(read_response({"originData": [pair]}))) == {"kick_extract", "kick_remove"}

    def test_advanced_pair_with_two_group_names_is_one_stem(self):
        pair = {"extract": detail(0, "Kick", "a", 1.0), "remove": detail(1, "Everything Else", "b", 1.0)}

        assert set(links(read_response({"originData": [pair]}))) == {"kick_extract", "kick_remove"}

    def test_advanced_pair_without_a_group_name_is_called_stem(self):
        pair = {"extract": {"audio_url": "https://h/e.mp3"}, "remove": {"audio_url": "https://h/r.mp3"}}

        assert links(read_response({"originData": [pair]})) == {
            "stem_extract": "https://h/e.mp3",
            "stem_remove": "https://h/r.mp3",
        }

    def test_advanced_pair_with_one_side_yields_one_stem(self):
        pair = {"extract": detail(0, "Kick", "a", 1.0), "remove": None}

        assert set(links(read_response({"originData": [pair]}))) == {"kick_extract"}

    def test_advanced_pair_is_distinct_from_the_stem_of_the_same_name(self):
        pair = {"extract": detail(0, "Bass", "a", 1.0), "remove": detail(1, "Bass", "b", 1.0)}

        assert links(read_response({"bassUrl": None, "originData": [pair]})) == {
            "bass": None,
            "bass_extract": stem_url(0, "a"),
            "bass_remove": stem_url(1, "b"),
        }

    def test_new_keys_become_snake_case_stems_after_the_known_ones(self):
        stems = read_response(
            {
                "steelDrumsUrl": "https://h/sd.mp3",
                "originUrl": "https://h/o.mp3",
                "choirUrl": None,
                "vocalUrl": "https://h/v.mp3",
                "Url": "https://h/none.mp3",
                "musicTag": "x",
            }
        )

        assert [(stem.name, stem.url) for stem in stems] == [
            ("vocals", "https://h/v.mp3"),
            ("steel_drums", "https://h/sd.mp3"),
            ("choir", None),
        ]

    def test_callback_keys_name_the_same_stems(self):
        assert links(read_response({"backing_vocals_url": "https://h/b.mp3", "vocal_url": ""})) == {
            "backing_vocals": "https://h/b.mp3",
            "vocals": None,
        }

    @pytest.mark.parametrize("order", [1, -1], ids=["filled first", "empty first"])
    def test_stem_under_two_keys_has_the_link_of_the_filled_one(self, order):
        pairs = [("vocalUrl", "https://h/v.mp3"), ("vocal_url", "")][::order]

        assert links(read_response(dict(pairs))) == {"vocals": "https://h/v.mp3"}


class TestUrlOf:
    @pytest.mark.parametrize(
        "written, link",
        [
            ("https://h/s/x_Lead Vocal.mp3", "https://h/s/x_Lead%20Vocal.mp3"),
            ("https://h/s/x_Lead%20Vocal.mp3", "https://h/s/x_Lead%20Vocal.mp3"),
            ("https://h/a b%20c.mp3", "https://h/a%20b%20c.mp3"),
            ("https://h/100% live.mp3", "https://h/100%25%20live.mp3"),
            ("https://h/x.mp3?sig=a%2Fb%3D&e=1+2", "https://h/x.mp3?sig=a%2Fb%3D&e=1+2"),
            ("https://h/ü.mp3", "https://h/%C3%BC.mp3"),
            ("https://h/\ud800.mp3", "https://h/%ED%A0%80.mp3"),
            ("  https://h/x.mp3\n", "https://h/x.mp3"),
            ("http://127.0.0.1:9000/x.mp3", "http://127.0.0.1:9000/x.mp3"),
            ("HTTPS://h/x.mp3", "HTTPS://h/x.mp3"),
            ("", None),
            ("   ", None),
            ("null", None),
            ("/s/x.mp3", None),
            ("//h/x.mp3", None),
            ("file:///etc/passwd", None),
            ("ftp://h/x.mp3", None),
            ("javascript:alert(1)", None),
            ("https://", None),
            ("https://:443/x.mp3", None),
            ("https://[::1/x.mp3", None),
            (None, None),
            (5, None),
            (True, None),
            (["https://h/x.mp3"], None),
            ({"url": "https://h/x.mp3"}, None),
        ],
        ids=ascii,
    )
    def test_link_is_an_encoded_http_url_or_none(self, written, link):
        assert read_response({"vocalUrl": written}) == (StemLink("vocals", link),)


class TestReadTime:
    MOMENT = utc(2025, 7, 29, 9, 54, 14)

    @pytest.mark.parametrize(
        "written",
        [
            1753782854000,
            1753782854000.0,
            "1753782854000",
            " 1753782854000 ",
            1753782854,
            "2025-07-29T09:54:14Z",
            "2025-07-29T09:54:14.000Z",
            "2025-07-29T09:54:14.0Z",
            "2025-07-29T09:54:14+00:00",
            "2025-07-29T17:54:14+08:00",
            "2025-07-29T09:54:14",
            "2025-07-29 09:54:14",
        ],
        ids=repr,
    )
    def test_time_is_read_in_every_format(self, written):
        task = read({**examples.RECORD_PENDING, "createTime": written})

        assert task.created_at == self.MOMENT
        assert task.created_at.utcoffset().total_seconds() == 0

    @pytest.mark.parametrize(
        "written",
        [
            None,
            "",
            "soon",
            "2025-13-45",
            "0001-01-01T00:00:00+14:00",
            True,
            [],
            {},
            1e300,
            10**40,
            float("nan"),
            float("inf"),
            "9" * 40,
        ],
        ids=lambda w: repr(w)[:20],
    )
    def test_invalid_time_is_none(self, written):
        assert read({**examples.RECORD_PENDING, "createTime": written}).created_at is None


class TestParseRecord:
    @pytest.mark.parametrize("flag", [None, "", "success", "DONE", 1, True, [], {}, "\ud800"], ids=ascii)
    def test_unknown_status_is_unreadable(self, flag):
        with pytest.raises(
            UnreadableAnswerError, match=f"task {examples.TWO_STEMS_ID} has an unknown successFlag"
        ):
            read({**examples.RECORD_TWO_STEMS, "successFlag": flag})

    @pytest.mark.parametrize(
        "task_id", [None, "", [], {}, True, "\ud800", "x" * 500], ids=lambda t: ascii(t)[:10]
    )
    def test_record_without_task_id_is_unreadable(self, task_id):
        with pytest.raises(UnreadableAnswerError, match="no task id"):
            read({**examples.RECORD_TWO_STEMS, "taskId": task_id})

    @pytest.mark.parametrize("data", [[], "", 0, False, [None], "x", 5], ids=repr)
    def test_record_that_is_not_an_object_is_unreadable(self, data):
        with pytest.raises(UnreadableAnswerError, match="not an object"):
            read(data)

    def test_record_of_an_own_file_has_no_music_id(self):
        record = {k: v for k, v in examples.RECORD_TWO_STEMS.items() if k not in ("musicId", "musicIndex")}

        assert read(record).music_id is None

    def test_error_code_is_read_from_text(self):
        task = read({**examples.RECORD_FAILED, "errorCode": "531", "errorMessage": ""})

        assert (task.error_code, task.error_message) == (531, None)

    def test_order_of_keys_does_not_matter(self):
        record = copy.deepcopy(examples.RECORD_TWELVE_STEMS)
        record["response"] = dict(reversed(record["response"].items()))

        assert read(dict(reversed(record.items()))) == read(examples.RECORD_TWELVE_STEMS)

    @pytest.mark.parametrize(
        "dialect, status, answer, code, verdict",
        [
            pytest.param(KIE, 200, envelope(None, 500), 500, Verdict.RETRY, id="server error"),
            pytest.param(KIE, 200, envelope(None, 422), 422, Verdict.FATAL, id="unknown at kie"),
            pytest.param(SUNOAPI, 200, envelope(None, 404), 404, Verdict.FATAL, id="unknown at sunoapi"),
            pytest.param(KIE, 200, envelope(None, 429), 429, Verdict.WAIT, id="too fast at kie"),
            pytest.param(SUNOAPI, 200, envelope(None, 430), 430, Verdict.WAIT, id="too fast at sunoapi"),
            pytest.param(SUNOAPI, 200, envelope(None, 405), 405, Verdict.WAIT, id="limit at sunoapi"),
            pytest.param(SUNOAPI, 200, envelope(None, 455), 455, Verdict.WAIT, id="maintenance"),
            pytest.param(KIE, 200, envelope(None, 201), 201, Verdict.WAIT, id="still running"),
            pytest.param(SUNOAPI, 429, None, 429, Verdict.WAIT, id="a proxy's 429"),
            pytest.param(SUNOAPI, 405, None, 405, Verdict.FATAL, id="a router's 405"),
            pytest.param(SUNOAPI, 403, None, 403, Verdict.FATAL, id="a proxy's 403"),
            pytest.param(KIE, 502, None, 502, Verdict.RETRY, id="a proxy's 502"),
        ],
    )
    def test_refusal_has_the_verdict_of_its_code_or_else_of_its_status(
        self, dialect, status, answer, code, verdict
    ):
        with pytest.raises(VendorError) as caught:
            parse_record(status, body(answer) if answer else examples.HTML, dialect, retry_after=12.0)
        assert (caught.value.code, caught.value.verdict, caught.value.retry_after) == (code, verdict, 12.0)

    def test_refusal_for_credits_raises_out_of_credits_error(self):
        with pytest.raises(OutOfCreditsError):
            parse_record(200, body(envelope(None, 429)), SUNOAPI)

    @pytest.mark.parametrize(
        "status, answer",
        [
            (200, examples.HTML),
            (200, b""),
            (200, b"null"),
            (200, b"[1]"),
            (200, b'{"code":200,"data":{"taskId":"3e6'),
            (200, b'{"msg":"success"}'),
            (200, b'{"code":"ok"}'),
            (200, b"\x80\x81"),
            (200, b"[" * 200_000),
            (302, b""),
        ],
        ids=lambda v: repr(v)[:24],
    )
    @both_vendors
    def test_unreadable_answer_is_not_a_refusal(self, status, answer, dialect):
        with pytest.raises(UnreadableAnswerError, match=f"cannot be read \\(HTTP {status}\\)"):
            parse_record(status, answer, dialect)
