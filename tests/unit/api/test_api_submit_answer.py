from __future__ import annotations

import api_examples as examples
import pytest
from api_examples import TWO_STEMS_ID, body, envelope

from airflow_provider_vocalsep.api.answers import parse_submit
from airflow_provider_vocalsep.api.dialects import DIALECTS, get_dialect
from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SubmitOutcomeUnknownError,
    VendorError,
    Verdict,
)

SUNOAPI, KIE = get_dialect("sunoapi"), get_dialect("kie")
both_vendors = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))


class TestParseSubmit:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(examples.RECORDED_SUBMITTED, id="recorded"),
            pytest.param(body(envelope({"taskId": TWO_STEMS_ID}, code="200")), id="code as text"),
            pytest.param(body(envelope({"taskId": TWO_STEMS_ID}, code=200.0)), id="code as fraction"),
            pytest.param(body(envelope({"taskId": TWO_STEMS_ID}, code=0)), id="code 0"),
            pytest.param(body(envelope({"task_id": TWO_STEMS_ID})), id="snake case"),
            pytest.param(body(envelope({"taskId": f" {TWO_STEMS_ID}\n"})), id="spaces around the id"),
            pytest.param(body({"data": {"taskId": TWO_STEMS_ID}, "code": 200}), id="no msg, other order"),
            pytest.param(body(envelope({"taskId": TWO_STEMS_ID}, msg="成功")), id="Chinese msg"),
        ],
    )
    @both_vendors
    def test_accepted_submit_yields_the_task_id(self, answer, dialect):
        assert parse_submit(200, answer, dialect) == TWO_STEMS_ID

    @pytest.mark.parametrize("status", [200, 201, 400, 500, 502])
    def test_code_of_success_counts_under_any_http_status(self, status):
        assert parse_submit(status, examples.RECORDED_SUBMITTED, KIE) == TWO_STEMS_ID

    def test_numeric_task_id_is_read_as_text(self):
        assert parse_submit(200, body(envelope({"taskId": 12345})), KIE) == "12345"

    CASES = [
        *[
            (d, code, Verdict.FATAL)
            for d in (SUNOAPI, KIE)
            for code in (400, 401, 404, 409, 413, 422, 433, 451, 505)
        ],
        *[(d, 455, Verdict.WAIT) for d in (SUNOAPI, KIE)],
        *[(d, 418, Verdict.FATAL) for d in (SUNOAPI, KIE)],
        (SUNOAPI, 405, Verdict.WAIT),
        (SUNOAPI, 430, Verdict.WAIT),
        (KIE, 429, Verdict.WAIT),
    ]

    @pytest.mark.parametrize(
        "dialect, code, verdict", [pytest.param(*case, id=f"{case[0].name}-{case[1]}") for case in CASES]
    )
    def test_refusal_has_code_verdict_message_and_remedy(self, dialect, code, verdict):
        with pytest.raises(VendorError) as caught:
            parse_submit(200, body(envelope(None, code, "not today")), dialect, retry_after=7.0)

        error = caught.value
        assert (error.code, error.verdict, error.vendor_message, error.retry_after) == (
            code,
            verdict,
            "not today",
            7.0,
        )

        refusal, _, remedy = str(error).partition("'not today'. ")
        assert refusal == f"The vendor ({dialect.name}) refused with code {code}: "
        assert len(remedy) > 20

    @pytest.mark.parametrize("dialect, code", [(SUNOAPI, 429), (SUNOAPI, 402), (KIE, 402)])
    def test_refusal_for_credits_raises_out_of_credits_error(self, dialect, code):
        with pytest.raises(
            OutOfCreditsError, match="out of credits. Nothing was charged: top it up"
        ) as caught:
            parse_submit(200, body(envelope(None, code, "credits insufficient")), dialect)
        assert (caught.value.verdict, caught.value.code) == (Verdict.OUT_OF_CREDITS, code)

    @pytest.mark.parametrize(
        "answer, code, remedy",
        [
            pytest.param(examples.RECORDED_UNKNOWN_SOURCE, 422, "Check the track's ids", id="unknown source"),
            pytest.param(examples.RECORDED_NO_CALLBACK, 422, "Check the track's ids", id="no callback"),
            pytest.param(examples.RECORDED_UNAUTHORIZED, 401, "password field", id="401 without data"),
        ],
    )
    def test_recorded_refusal_names_the_remedy(self, answer, code, remedy):
        with pytest.raises(VendorError, match=remedy) as caught:
            parse_submit(200, answer, KIE)
        assert caught.value.code == code

    def test_recorded_430_of_sunoapi_means_too_fast(self):
        with pytest.raises(VendorError, match="try again later") as caught:
            parse_submit(200, examples.RECORDED_TOO_FAST, SUNOAPI)
        assert caught.value.verdict is Verdict.WAIT

    @pytest.mark.parametrize("code", [401, "401", 401.0], ids=repr)
    def test_refusal_code_is_read_in_every_format(self, code):
        with pytest.raises(VendorError) as caught:
            parse_submit(500, body(envelope(None, code)), KIE)
        assert caught.value.code == 401

    @pytest.mark.parametrize(
        "status, verdict",
        [
            (301, Verdict.FATAL),
            (302, Verdict.FATAL),
            (401, Verdict.FATAL),
            (403, Verdict.FATAL),
            (404, Verdict.FATAL),
            (405, Verdict.FATAL),
            (413, Verdict.FATAL),
            (429, Verdict.WAIT),
        ],
    )
    @pytest.mark.parametrize(
        "answer", [examples.HTML, b"", b"[]", b'{"error":"x"}'], ids=["html", "empty", "list", "json"]
    )
    @both_vendors
    def test_refusal_by_a_proxy_has_the_verdict_of_its_http_status(self, status, verdict, answer, dialect):
        with pytest.raises(VendorError, match=f"refused with HTTP {status}") as caught:
            parse_submit(status, answer, dialect, retry_after=3.0)
        assert (caught.value.verdict, caught.value.code, caught.value.retry_after) == (verdict, status, 3.0)
        assert not isinstance(caught.value, OutOfCreditsError)

    @pytest.mark.parametrize(
        "status, answer",
        [
            pytest.param(200, examples.HTML, id="HTML with 200"),
            pytest.param(200, b"", id="nothing with 200"),
            pytest.param(204, b"", id="nothing with 204"),
            pytest.param(502, examples.HTML, id="HTML with 502"),
            pytest.param(503, b"", id="nothing with 503"),
            pytest.param(520, b"error code: 520", id="Cloudflare's 520"),
            pytest.param(408, b"", id="timeout of a proxy"),
            pytest.param(200, examples.RECORDED_SUBMITTED[:-9], id="truncated"),
            pytest.param(200, b"\xff\xfe\x00garbage", id="random bytes"),
            pytest.param(200, b'{"msg":"success","data":{"taskId":"3e63"}}', id="no code"),
            pytest.param(200, b'{"code":true,"data":{"taskId":"3e63"}}', id="a code that is not a number"),
            pytest.param(200, body(envelope(None)), id="success without data"),
            pytest.param(200, body(envelope([])), id="success with a list"),
            pytest.param(200, body(envelope({})), id="success without an id"),
            pytest.param(200, body(envelope({"taskId": ""})), id="success with an empty id"),
            pytest.param(200, body(envelope({"taskId": None})), id="success with a null id"),
            pytest.param(200, body(envelope({"taskId": {"a": 1}})), id="success with an object as id"),
            pytest.param(200, body(envelope({"taskId": "x" * 1000})), id="success with a long text as id"),
            pytest.param(200, body(envelope({"taskId": "\ud800"})), id="success with half a character as id"),
            pytest.param(200, examples.RECORDED_SERVER_ERROR, id="code 500"),
            *[pytest.param(200, body(envelope(None, c)), id=f"code {c}") for c in (408, 501, 531, 502, 599)],
            *[
                pytest.param(200, body(envelope(None, c)), id=f"code {c}")
                for c in (-1, 1, 201, 202, 302, 1000)
            ],
        ],
    )
    @both_vendors
    def test_answer_that_does_not_show_the_outcome_is_never_a_refusal(self, status, answer, dialect):
        with pytest.raises(SubmitOutcomeUnknownError, match="It may have accepted and charged it"):
            parse_submit(status, answer, dialect)

    def test_unknown_outcome_quotes_the_answer(self):
        with pytest.raises(SubmitOutcomeUnknownError, match=r"HTTP 502\): .*Bad Gateway"):
            parse_submit(502, examples.HTML, KIE)
        with pytest.raises(SubmitOutcomeUnknownError, match=r"is code 500 \('The original Suno task"):
            parse_submit(200, examples.RECORDED_SERVER_ERROR, KIE)
