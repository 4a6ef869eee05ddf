from __future__ import annotations

import json
import time

import pytest
from sandbox_caller import wait_for
from werkzeug import Response

from airflow_provider_vocalsep.sandbox.contract import signature_headers


@pytest.fixture
def inbox(httpserver):
    """A receiver that stores requests, and returns ``inbox.answers`` in turn and then 200."""

    class Inbox:
        url = httpserver.url_for("/callback?secret=kept")

        def __init__(self):
            self.requests, self.answers = [], []

        @property
        def bodies(self):
            return [json.loads(request.data) for request in self.requests]

        def wait(self, count=1):
            wait_for(lambda: len(self.requests) >= count)
            time.sleep(0.05)  # longer than the back-off before a further retry
            assert len(self.requests) == count
            return self.bodies

    box = Inbox()

    def receive(request):
        box.requests.append(request)
        answer = box.answers.pop(0) if box.answers else 200
        return Response("", status=answer) if isinstance(answer, int) else answer()

    httpserver.expect_request("/callback").respond_with_handler(receive)
    return box


def callbacks_of(caller):
    (task,) = caller.sandbox.books()["tasks"]
    return [(row["attempt"], row["status"], row["outcome"]) for row in task["callbacks"]]


class TestCallbackBody:
    def test_sunoapi_callback_of_two_stems_has_the_documented_body(self, vendor, inbox):
        data = vendor.separated(callBackUrl=inbox.url)

        (body,) = inbox.wait()

        assert list(body) == ["code", "data", "msg"]
        assert body == {
            "code": 200,
            "data": {
                "task_id": data["taskId"],
                "vocal_removal_info": {
                    "instrumental_url": data["response"]["instrumentalUrl"],
                    "origin_url": "",
                    "vocal_url": data["response"]["vocalUrl"],
                },
            },
            "msg": "vocal Removal generated successfully.",
        }
        assert inbox.requests[0].args["secret"] == "kept"
        assert inbox.requests[0].content_type == "application/json"

    def test_kie_callback_of_twelve_stems_has_the_documented_body(self, calling, inbox):
        caller = calling(dialect="kie")
        data = caller.separated(type="split_stem", callBackUrl=inbox.url)

        (body,) = inbox.wait()

        assert list(body) == ["code", "msg", "data"]
        assert body["msg"] == "vocal separation generated successfully."
        stems = body["data"]["vocal_separation_info"]
        assert list(stems) == [
            *(
                "origin_url",
                "backing_vocals_url",
                "bass_url",
                "brass_url",
                "drums_url",
                "fx_url",
                "guitar_url",
            ),
            *("keyboard_url", "percussion_url", "strings_url", "synth_url", "vocal_url", "woodwinds_url"),
        ]
        assert stems["vocal_url"] == data["response"]["vocalUrl"]
        assert stems["strings_url"] == ""

    def test_advanced_separation_has_the_container_of_sunoapi_in_both_dialects(self, either, inbox):
        data = either.separated(type="split_stem_advanced", stemName="Kick", callBackUrl=inbox.url)

        (body,) = inbox.wait()

        assert body["data"]["vocal_removal_info"] == {"origin_data": data["response"]["originData"]}

    @pytest.mark.parametrize(
        ("type_", "messages"),
        [
            ("separate_vocal", {"sunoapi": "Vocal separation failed", "kie": "Vocal separation failed"}),
            ("split_stem", {"sunoapi": "Vocal separation failed", "kie": "Instrument separation failed"}),
        ],
    )
    def test_failed_task_has_the_dialects_code_and_message(self, either, dialect, inbox, type_, messages):
        either.sandbox.set_fault("task", "fail", code={"sunoapi": 400, "kie": 500}[dialect])
        data = either.separated(type=type_, callBackUrl=inbox.url)
        (body,) = inbox.wait()

        container = {"sunoapi": "vocal_removal_info", "kie": "vocal_separation_info"}[dialect]

        assert body == {
            "code": {"sunoapi": 400, "kie": 500}[dialect],
            "msg": messages[dialect],
            "data": {"task_id": data["taskId"], container: None},
        }
        assert data["successFlag"] == "GENERATE_AUDIO_FAILED"


class TestCallbackSignature:
    def test_signature_covers_task_id_and_timestamp(self, calling, inbox):
        caller = calling(dialect="kie", webhook_hmac_key="whk_ünïcode")
        vendor_task_id = caller.accepted(callBackUrl=inbox.url)
        inbox.wait()
        headers = inbox.requests[0].headers

        timestamp = int(headers["X-Webhook-Timestamp"])

        assert abs(time.time() - timestamp) < 60
        expected = signature_headers("whk_ünïcode", vendor_task_id, timestamp)
        assert headers["X-Webhook-Signature"] == expected["X-Webhook-Signature"]

    def test_callback_without_a_key_is_not_signed(self, either, inbox):
        either.accepted(callBackUrl=inbox.url)

        inbox.wait()

        assert "X-Webhook-Signature" not in inbox.requests[0].headers


class TestCallbackDelivery:
    def test_callback_is_retried_until_it_is_answered_with_200(self, vendor, inbox):
        inbox.answers[:] = [500, 404]
        data = vendor.separated(callBackUrl=inbox.url)

        inbox.wait(3)

        assert callbacks_of(vendor) == [(1, 500, "refused"), (2, 404, "refused"), (3, 200, "accepted")]
        assert vendor.record(data["taskId"])["successFlag"] == "SUCCESS"

    def test_task_keeps_its_stems_after_three_failed_retries(self, vendor, inbox):
        inbox.answers[:] = [503] * 9
        vendor_task_id = vendor.accepted(callBackUrl=inbox.url)
        inbox.wait(4)

        data = wait_for(
            lambda: (d := vendor.record(vendor_task_id))["successFlag"] == "CALLBACK_EXCEPTION" and d
        )

        assert data["response"]["vocalUrl"]

    def test_undelivered_callback_of_a_failed_task_leaves_its_status(self, calling, inbox):
        caller = calling(callback_retries=0)
        inbox.answers[:] = [500]
        caller.sandbox.set_fault("task", "fail")
        data = caller.separated(callBackUrl=inbox.url)

        inbox.wait()

        assert caller.record(data["taskId"])["successFlag"] == "GENERATE_AUDIO_FAILED"

    def test_callback_without_an_answer_times_out(self, calling, inbox):
        caller = calling(callback_timeout=0.2, callback_retries=0)
        inbox.answers[:] = [lambda: time.sleep(0.6) or Response("")]
        vendor_task_id = caller.accepted(callBackUrl=inbox.url)

        wait_for(lambda: caller.record(vendor_task_id)["successFlag"] == "CALLBACK_EXCEPTION")

        assert callbacks_of(caller) == [(1, None, "TimeoutError")]

    def test_callback_to_a_closed_port_fails_after_its_retries(self, calling, free_port):
        caller = calling(callback_retries=1)
        vendor_task_id = caller.accepted(callBackUrl=f"http://127.0.0.1:{free_port}/")

        wait_for(lambda: caller.record(vendor_task_id)["successFlag"] == "CALLBACK_EXCEPTION")

        assert [attempt for attempt, _, _ in callbacks_of(caller)] == [1, 2]

    @pytest.mark.parametrize(
        "url", ["https://callback.invalid/vocalsep", "https://example.com/cb", "https://callback.placeholder"]
    )
    def test_placeholder_address_is_not_called(self, vendor, url):
        data = vendor.separated(callBackUrl=url)

        wait_for(lambda: callbacks_of(vendor) == [(0, None, "not attempted")])

        assert vendor.record(data["taskId"])["successFlag"] == "SUCCESS"
        assert vendor.sandbox.totals()["callbacks"] == 0


class TestCallbackFaults:
    def test_none_sends_no_callback(self, vendor, inbox):
        vendor.sandbox.set_fault("callback", "none")

        assert vendor.separated(callBackUrl=inbox.url)["successFlag"] == "SUCCESS"
        inbox.wait(0)

    def test_duplicate_sends_the_same_callback_twice(self, vendor, inbox):
        vendor.sandbox.set_fault("callback", "duplicate")
        vendor.accepted(callBackUrl=inbox.url)

        first, second = inbox.wait(2)

        assert first == second

    def test_early_sends_a_callback_before_the_submit_is_answered(self, vendor, inbox):
        vendor.sandbox.set_fault("callback", "early", times=1)

        vendor_task_id = vendor.accepted(callBackUrl=inbox.url)

        assert [body["data"]["task_id"] for body in inbox.bodies][:1] == [vendor_task_id]
        inbox.wait(2)

    def test_late_sends_the_callback_after_the_record_has_succeeded(self, vendor, inbox):
        vendor.sandbox.set_fault("callback", "late", seconds=0.3)

        assert vendor.separated(callBackUrl=inbox.url)["successFlag"] == "SUCCESS"
        assert inbox.requests == []
        inbox.wait(1)

    def test_forged_replaces_the_links_of_the_callback(self, vendor, inbox):
        vendor.sandbox.set_fault("callback", "forged")
        data = vendor.separated(callBackUrl=inbox.url)
        (body,) = inbox.wait()

        stolen = body["data"]["vocal_removal_info"]["vocal_url"]

        assert stolen.startswith("https://attacker.example/")
        assert vendor.record(data["taskId"])["response"]["vocalUrl"] != stolen
