from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.api.errors import SeparationFailedError
from airflow_provider_vocalsep.api.models import SeparationTask
from airflow_provider_vocalsep.api.vocabulary import TaskStatus
from airflow_provider_vocalsep.transfers.vocal_separation_to_s3 import (
    NotFinishedError,
    VocalSeparationToS3Operator,
)
from tests.support.operator_bench import DESTINATION


def transfer(**arguments: object) -> VocalSeparationToS3Operator:
    return VocalSeparationToS3Operator(
        task_id="land",
        **{"vendor_task_id": "T1", "destination": DESTINATION, "track_key": "one", **arguments},
    )


class TestExecute:
    def test_finished_task_lands_and_its_row_says_so(self, bench, vendor):
        vendor.finish()
        operator = transfer()

        summary = operator.execute(bench.context())

        assert set(summary["stems"]) == {"vocals", "instrumental"}
        head, rows = bench.rows()
        assert (head["concluded"], head["landed"], head["submits"]) == (True, 1, 0)
        assert (rows["one"]["state"], rows["one"]["vendor_task_id"]) == ("landed", "T1")
        assert {"entry", "source", "paid", "credits", "before"}.isdisjoint(rows["one"])
        assert operator.stems_link.endswith("music/one/separate_vocal/")
        assert vendor.calls == 0

    def test_track_key_is_the_vendor_task_by_default(self, bench, vendor):
        vendor.finish()

        summary = transfer(track_key=None).execute(bench.context())

        assert summary["manifest"] == f"{DESTINATION}/T1/separate_vocal/manifest.json"

    def test_unknown_task_fails_at_once(self, bench):
        with pytest.raises(AirflowFailException, match=r"does not know task T1\. Check the id"):
            transfer().execute(bench.context())

        assert bench.rows()[0]["concluded"]

    def test_task_under_way_is_left_to_airflows_retry(self, bench, vendor):
        vendor.records["T1"] = SeparationTask("T1", TaskStatus.PENDING, ())

        with pytest.raises(NotFinishedError, match=r"put a VocalSeparationSensor before this Airflow task"):
            transfer().execute(bench.context())

        head, rows = bench.rows()
        assert (head["concluded"], rows["one"]["state"]) == (False, "failed")

    @pytest.mark.parametrize(
        ("code", "error"),
        [(451, AirflowFailException), (531, SeparationFailedError)],
        ids=["final", "refunded"],
    )
    def test_failed_task_has_nothing_to_land(self, bench, vendor, code, error):
        vendor.fail(code=code)

        with pytest.raises(error, match=f"T1: {code}, no. There is nothing to land"):
            transfer().execute(bench.context())

        assert bench.rows()[1]["one"]["code"] == code

    def test_missing_bucket_fails_before_the_record_is_read(self, bench, vendor):
        with pytest.raises(AirflowFailException, match="there is no bucket 'nowhere'"):
            transfer(destination="s3://nowhere/music").execute(bench.context())

        assert vendor.reads == 0
