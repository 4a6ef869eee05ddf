"""The arguments of the batch operator."""

from __future__ import annotations

import pytest

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationBatchOperator


def operator(**arguments) -> VocalSeparationBatchOperator:
    return VocalSeparationBatchOperator(
        task_id="separate", **{"tracks": [], "destination": "s3://stems", **arguments}
    )


class TestVocalSeparationBatchOperator:
    @pytest.mark.parametrize(
        ("tracks", "label"),
        [
            ("s3://b/_vocalsep/runs/d/r/plan/tracks-000201-000400.jsonl", "tracks 201–400"),
            ("s3://b/mine.jsonl", "mine.jsonl"),
            ([{"key": "a"}, {"key": "b"}], "2 tracks"),
        ],
    )
    def test_label_in_the_grid_names_its_tracks(self, tracks, label):
        assert operator(tracks=tracks).label == label

    @pytest.mark.parametrize(("limit", "may_fail"), [(0, 0), (3, 3), (0.05, 10), ("0.05", 10), (1, 1)])
    def test_max_failed_is_a_count_or_below_1_a_share(self, limit, may_fail):
        assert operator(max_failed=limit)._may_fail(200) == may_fail

    def test_template_fields_are_arguments(self):
        assert [
            name for name in VocalSeparationBatchOperator.template_fields if not hasattr(operator(), name)
        ] == []
