from __future__ import annotations

import api_examples as examples
import pytest
from api_examples import body, envelope

from airflow_provider_vocalsep.api.answers import parse_credits
from airflow_provider_vocalsep.api.dialects import get_dialect
from airflow_provider_vocalsep.api.errors import UnreadableAnswerError, VendorError, Verdict

SUNOAPI, KIE = get_dialect("sunoapi"), get_dialect("kie")


class TestParseCredits:
    @pytest.mark.parametrize(
        "data, credits",
        [
            pytest.param(100, 100.0, id="sunoapi's integer"),
            pytest.param(5916.25, 5916.25, id="kie's fraction"),
            pytest.param("42.5", 42.5, id="text"),
            pytest.param({"credits": 7}, 7.0, id="the quick start's object"),
            pytest.param(0, 0.0, id="nothing left"),
            pytest.param(-3, -3.0, id="overdrawn"),
        ],
    )
    def test_balance_is_read_in_every_format(self, data, credits):
        assert parse_credits(200, body(envelope(data)), KIE) == credits

    @pytest.mark.parametrize(
        "data",
        [None, "", "many", [], [1], {}, {"credits": None}, True, float("nan"), float("inf"), 10**400],
        ids=lambda d: repr(d)[:16],
    )
    def test_balance_that_is_not_a_number_is_unreadable(self, data):
        with pytest.raises(UnreadableAnswerError, match="balance is not a number"):
            parse_credits(200, body(envelope(data)), SUNOAPI)

    def test_wrong_key_is_refused(self):
        with pytest.raises(VendorError, match="Check the API key") as caught:
            parse_credits(200, examples.RECORDED_UNAUTHORIZED, KIE)
        assert (caught.value.code, caught.value.verdict) == (401, Verdict.FATAL)

    def test_html_is_unreadable(self):
        with pytest.raises(UnreadableAnswerError):
            parse_credits(200, examples.HTML, SUNOAPI)
