"""M5: the retry policy for ``@task`` functions never lets a submit be sent twice."""

from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    SubmitOutcomeUnknownError,
    VendorUnreachableError,
)

retries = pytest.importorskip("airflow_provider_vocalsep.retries", reason="needs Airflow 3.3")


def decide(error):
    return retries.VocalSepRetryPolicy().evaluate(error, 1, 3).action.name


class TestEvaluate:
    def test_lost_submit_is_not_retried(self):
        assert decide(SubmitOutcomeUnknownError("The submit was sent and its answer lost.")) == "FAIL"

    def test_lost_read_is_retried(self):
        assert decide(AnswerLostError("No answer.")) == "RETRY"

    def test_vendor_that_was_never_reached_is_retried(self):
        assert decide(VendorUnreachableError("Could not connect.")) == "RETRY"
