from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.codes import Occasion, classify, classify_status, classify_task
from airflow_provider_vocalsep.api.dialects import DIALECTS, get_dialect
from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.vocabulary import TaskStatus

OK, RETRY, WAIT, FATAL = Verdict.OK, Verdict.RETRY, Verdict.WAIT, Verdict.FATAL
BROKE, REFUNDED = Verdict.OUT_OF_CREDITS, Verdict.REFUNDED

# Code: (verdict as the answer to a call, verdict as the code of a failed task).
BOTH_VENDORS = {
    0: (OK, OK),
    200: (OK, OK),
    201: (WAIT, RETRY),
    400: (FATAL, FATAL),
    401: (FATAL, FATAL),
    402: (BROKE, BROKE),
    404: (FATAL, FATAL),
    408: (RETRY, RETRY),
    409: (FATAL, FATAL),
    413: (FATAL, FATAL),
    422: (FATAL, FATAL),
    433: (FATAL, FATAL),
    451: (FATAL, FATAL),
    455: (WAIT, RETRY),
    500: (RETRY, RETRY),
    501: (RETRY, RETRY),
    505: (FATAL, FATAL),
    531: (RETRY, REFUNDED),
}
SUNOAPI = {**BOTH_VENDORS, 405: (WAIT, RETRY), 429: (BROKE, BROKE), 430: (WAIT, RETRY)}
KIE = {**BOTH_VENDORS, 429: (WAIT, RETRY)}
UNDOCUMENTED = {
    -1: (FATAL, FATAL),
    100: (FATAL, FATAL),
    418: (FATAL, FATAL),
    502: (RETRY, RETRY),
    599: (RETRY, RETRY),
    600: (FATAL, FATAL),
    10**30: (FATAL, FATAL),
}
ROWS = [
    pytest.param(dialect, code, *verdicts, id=f"{dialect}-{code if code < 10**9 else 'huge'}")
    for dialect, table in (("sunoapi", SUNOAPI), ("kie", KIE))
    for code, verdicts in (table | UNDOCUMENTED).items()
]


class TestClassify:
    @pytest.mark.parametrize("dialect, code, of_call, of_task", ROWS)
    def test_code_has_its_verdict_on_each_occasion(self, dialect, code, of_call, of_task):
        assert [classify(code, get_dialect(dialect), occasion) for occasion in Occasion] == [
            of_call,
            of_call,
            of_task,
        ]

    @pytest.mark.parametrize("dialect, table", [("sunoapi", SUNOAPI), ("kie", KIE)], ids=["sunoapi", "kie"])
    def test_table_covers_every_code_of_the_dialect(self, dialect, table):
        assert set(get_dialect(dialect).codes) == set(table) - {0}

    def test_429_is_out_of_credits_at_sunoapi_and_too_fast_at_kie(self):
        assert {d.name: classify(429, d, Occasion.SUBMIT) for d in DIALECTS.values()} == {
            "sunoapi": BROKE,
            "kie": WAIT,
        }


class TestClassifyStatus:
    @pytest.mark.parametrize(
        "status, verdict",
        [
            (301, FATAL),
            (401, FATAL),
            (402, BROKE),
            (403, FATAL),
            (404, FATAL),
            (405, FATAL),
            (408, RETRY),
            (425, RETRY),
            (429, WAIT),
            (430, FATAL),
            (500, RETRY),
            (502, RETRY),
            (503, RETRY),
            (520, RETRY),
        ],
    )
    def test_http_status_has_the_meaning_that_http_defines(self, status, verdict):
        assert classify_status(status) is verdict


class TestClassifyTask:
    @pytest.mark.parametrize(
        "status, error_code, verdict",
        [
            pytest.param(
                TaskStatus.GENERATE_AUDIO_FAILED, None, RETRY, id="separation failed without a code"
            ),
            pytest.param(TaskStatus.CREATE_TASK_FAILED, None, FATAL, id="never created, without a code"),
            pytest.param(TaskStatus.CALLBACK_EXCEPTION, None, RETRY, id="failed callback and no stems"),
            pytest.param(TaskStatus.GENERATE_AUDIO_FAILED, 200, RETRY, id="a code of success"),
            pytest.param(TaskStatus.CREATE_TASK_FAILED, 0, FATAL, id="a zero"),
            pytest.param(TaskStatus.CREATE_TASK_FAILED, 500, RETRY, id="the code overrides the status"),
            pytest.param(TaskStatus.GENERATE_AUDIO_FAILED, 451, FATAL, id="source not fetched"),
            pytest.param(TaskStatus.GENERATE_AUDIO_FAILED, 531, REFUNDED, id="refunded"),
            pytest.param(TaskStatus.GENERATE_AUDIO_FAILED, 455, RETRY, id="maintenance"),
        ],
    )
    @pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
    def test_error_code_decides_and_else_the_status(self, dialect, status, error_code, verdict):
        task = SeparationTask("t", status, error_code=error_code)

        assert task.failed
        assert classify_task(task, dialect) is verdict

    def test_429_of_a_task_is_out_of_credits_at_sunoapi_only(self):
        task = SeparationTask("t", TaskStatus.GENERATE_AUDIO_FAILED, error_code=429)

        assert classify_task(task, get_dialect("sunoapi")) is BROKE
        assert classify_task(task, get_dialect("kie")) is RETRY


class TestSeparationTask:
    LINK = (StemLink("vocals", "https://h/v.mp3"),)

    @pytest.mark.parametrize(
        "status, stems, finished, failed",
        [
            (TaskStatus.PENDING, (), False, False),
            (TaskStatus.SUCCESS, LINK, True, False),
            (TaskStatus.SUCCESS, (), True, False),
            (TaskStatus.CREATE_TASK_FAILED, (), False, True),
            (TaskStatus.GENERATE_AUDIO_FAILED, (), False, True),
            (TaskStatus.CALLBACK_EXCEPTION, LINK, True, False),
            (TaskStatus.CALLBACK_EXCEPTION, (), False, True),
            (TaskStatus.CALLBACK_EXCEPTION, (StemLink("vocals", None),), False, True),
        ],
    )
    def test_failed_callback_with_stems_is_finished(self, status, stems, finished, failed):
        task = SeparationTask("t", status, stems)

        assert (task.finished, task.failed) == (finished, failed)
