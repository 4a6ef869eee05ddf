from __future__ import annotations

import copy

import api_examples as examples
import pytest
from api_examples import FAILED_ID, TWELVE, TWO_STEMS_ID, body, stem_id, stem_url

from airflow_provider_vocalsep.api.callbacks import parse_callback
from airflow_provider_vocalsep.api.errors import UnreadableAnswerError
from airflow_provider_vocalsep.api.models import Callback, StemLink

TWO_LINKS = (
    StemLink("vocals", stem_url(0, "Vocals")),
    StemLink("instrumental", stem_url(1, "Instrumental")),
)


class TestParseCallback:
    def test_two_stems_of_sunoapi_are_parsed(self):
        assert parse_callback(body(examples.CALLBACK_TWO_STEMS)) == Callback(
            TWO_STEMS_ID, 200, "vocal Removal generated successfully.", TWO_LINKS
        )

    def test_two_stems_of_kie_are_parsed(self):
        assert parse_callback(body(examples.CALLBACK_KIE_TWO_STEMS)) == Callback(
            TWO_STEMS_ID, 200, "vocal separation generated successfully.", TWO_LINKS
        )

    def test_twelve_stems_have_no_instrumental(self):
        stems = parse_callback(body(examples.CALLBACK_TWELVE_STEMS)).stems

        assert {stem.name: stem.url for stem in stems} == {
            row[4]: stem_url(number, row[3]) for number, row in enumerate(TWELVE)
        }

    def test_advanced_stems_are_a_pair_with_encoded_spaces(self):
        assert parse_callback(body(examples.CALLBACK_ADVANCED)).stems == (
            StemLink("lead_vocal_extract", stem_url(0, "Lead%20Vocal"), stem_id(0), 200.1),
            StemLink("lead_vocal_remove", stem_url(1, "No%20Lead%20Vocal"), stem_id(1), 200.1),
        )

    @pytest.mark.parametrize(
        "delivery, code, message",
        [
            pytest.param(examples.CALLBACK_FAILED, 400, "Vocal separation failed", id="sunoapi"),
            pytest.param(examples.CALLBACK_KIE_FAILED, 500, "Instrument separation failed", id="kie"),
        ],
    )
    def test_failure_has_code_and_message_and_no_stems(self, delivery, code, message):
        assert parse_callback(body(delivery)) == Callback(FAILED_ID, code, message, ())

    def test_original_mix_is_not_a_stem(self):
        delivery = copy.deepcopy(examples.CALLBACK_TWO_STEMS)
        delivery["data"]["vocal_removal_info"]["origin_url"] = "https://cdn1.suno.ai/origin.mp3"

        assert parse_callback(delivery).stems == TWO_LINKS

    def test_decoded_object_is_parsed_like_its_bytes(self):
        assert parse_callback(examples.CALLBACK_TWO_STEMS) == parse_callback(
            body(examples.CALLBACK_TWO_STEMS)
        )

    @pytest.mark.parametrize(
        "delivery",
        [
            pytest.param({"code": 200, "data": {"task_id": "t"}}, id="data.task_id"),
            pytest.param({"code": 200, "data": {"taskId": "t"}}, id="data.taskId"),
            pytest.param({"code": 200, "taskId": "t", "data": None}, id="taskId"),
            pytest.param(
                {"code": 200, "task_id": "t", "data": [{"status": "success"}]}, id="task_id, recovery"
            ),
            pytest.param(
                {"code": 200, "taskId": "t", "task_id": "x", "data": {"task_id": "y"}}, id="taskId first"
            ),
            pytest.param(
                {"code": 200, "task_id": "x", "data": {"taskId": "t", "task_id": "y"}}, id="then data.taskId"
            ),
            pytest.param({"code": 200, "task_id": "x", "data": {"task_id": "t"}}, id="then data.task_id"),
            pytest.param(
                {"code": 200, "taskId": [], "data": {"task_id": "t"}}, id="invalid taskId is skipped"
            ),
            pytest.param({"code": "200", "taskId": "", "data": {"task_id": "t"}}, id="code as text"),
        ],
    )
    def test_task_id_is_found_under_every_key(self, delivery):
        assert parse_callback(delivery).task_id == "t"

    @pytest.mark.parametrize(
        "filled, other",
        [("vocal_removal_info", "vocal_separation_info"), ("vocal_separation_info", "vocal_removal_info")],
    )
    def test_stems_come_from_the_filled_container(self, filled, other):
        data = {"task_id": "t", other: None, filled: {"vocal_url": "https://h/v.mp3"}}

        assert parse_callback({"code": 200, "data": data}).stems == (StemLink("vocals", "https://h/v.mp3"),)

    @pytest.mark.parametrize("container", [None, "", [], 5, {}], ids=repr)
    def test_container_without_stems_yields_none(self, container):
        assert (
            parse_callback({"code": 200, "data": {"task_id": "t", "vocal_removal_info": container}}).stems
            == ()
        )

    def test_empty_link_yields_a_stem_without_url(self):
        data = {"task_id": "t", "vocal_removal_info": {"drums_url": "", "vocal_url": None}}

        assert parse_callback({"code": 200, "data": data}).stems == (
            StemLink("vocals", None),
            StemLink("drums", None),
        )


@pytest.mark.parametrize(
    "delivery",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe\xfd",
        b"[" * 200_000,
        b"{}",
        b'{"code":200}',
        b'{"code":200,"data":{}}',
        b'{"code":200,"data":{"task_id":""}}',
        b'{"code":200,"data":{"task_id":{"a":1}}}',
        b'{"code":200,"data":{"task_id":"\\ud800"}}',
        b'{"code":200,"data":{"task_id":"a\\nb"}}',
        b'{"data":{"task_id":"t"}}',
        b'{"code":null,"data":{"task_id":"t"}}',
        b'{"code":true,"data":{"task_id":"t"}}',
    ],
    ids=lambda d: repr(d)[:40],
)
def test_parse_callback_refuses_an_unreadable_body_without_quoting_it(delivery):
    with pytest.raises(
        UnreadableAnswerError, match=r"^The callback (is not a JSON object|has no code or no task id)\.$"
    ):
        parse_callback(delivery)
