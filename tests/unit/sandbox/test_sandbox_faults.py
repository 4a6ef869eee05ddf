from __future__ import annotations

import time

import pytest
import requests
from sandbox_caller import READ, wait_for

from airflow_provider_vocalsep.sandbox.faults import KINDS, Fault, Faults


class TestSubmitFaults:
    def test_accept_then_drop_charges_without_an_answer(self, vendor):
        vendor.sandbox.set_fault("submit", "accept_then_drop", times=1)

        with pytest.raises(requests.ConnectionError):
            vendor.submit()
        assert vendor.sandbox.totals()["charges"] == 1
        (task,) = vendor.sandbox.books()["tasks"]
        assert vendor.finished(task["vendor_task_id"])["successFlag"] == "SUCCESS"
        assert vendor.accepted()

    def test_slow_charges_and_delays_the_answer(self, vendor):
        vendor.sandbox.set_fault("submit", "slow", seconds=0.15)
        began = time.monotonic()

        vendor.accepted()

        assert time.monotonic() - began > 0.15

    @pytest.mark.parametrize(
        ("kind", "settings", "status", "content"),
        [
            ("html", {}, 502, "<!DOCTYPE html>"),
            ("html", {"status": 503}, 503, "<!DOCTYPE html>"),
            ("truncated", {}, 200, '{"code":200,"msg":"success","data":{"taskI'),
            ("http_429", {"seconds": 7}, 429, "Too Many Requests"),
            (
                "code",
                {"code": 455, "message": "Maintenance"},
                200,
                '{"code":455,"msg":"Maintenance","data":null}',
            ),
            ("code", {"code": 401, "message": "No"}, 200, '{"code":401,"msg":"No"}'),
        ],
        ids=["html", "html of 503", "truncated", "http 429", "any code", "code 401"],
    )
    def test_refused_submit_is_not_charged(self, vendor, kind, settings, status, content):
        vendor.sandbox.set_fault("submit", kind, **settings)

        answer = vendor.submit()

        assert answer.status_code == status
        assert answer.text.startswith(content)
        assert answer.headers.get("Retry-After") == ("7" if kind == "http_429" else None)
        assert vendor.sandbox.totals()["charges"] == 0


class TestReadFaults:
    @pytest.mark.parametrize(
        ("kind", "settings", "status", "content"),
        [
            ("html", {"status": 520}, 520, "<!DOCTYPE html>"),
            ("truncated", {}, 200, '{"code":200,"msg":"success","data":{"taskI'),
            ("http_429", {}, 429, "Too Many Requests"),
            ("code", {"code": 430}, 200, '{"code":430,"msg":"The server is having a bad day.","data":null}'),
            ("null", {}, 200, '{"code":200,"msg":"success","data":null}'),
        ],
        ids=["html", "truncated", "http 429", "any code", "null"],
    )
    def test_fault_occurs_the_given_number_of_times_and_counts_as_a_poll(
        self, vendor, kind, settings, status, content
    ):
        vendor_task_id = vendor.separated()["taskId"]
        before = vendor.sandbox.totals()["polls"]
        vendor.sandbox.set_fault("read", kind, times=2, **settings)

        answers = [vendor.get(READ, params={"taskId": vendor_task_id}) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [status, status, 200]
        assert all(answer.text.startswith(content) for answer in answers[:2])
        assert answers[2].json()["data"]["successFlag"] == "SUCCESS"
        assert vendor.sandbox.totals()["polls"] - before == 3

    def test_slow_delays_the_answer(self, vendor):
        vendor_task_id = vendor.separated()["taskId"]
        vendor.sandbox.set_fault("read", "slow", seconds=0.15)

        began = time.monotonic()

        assert vendor.record(vendor_task_id)
        assert time.monotonic() - began > 0.15

    def test_slow_answer_does_not_delay_other_requests(self, vendor):
        vendor.sandbox.set_fault("submit", "slow", seconds=1, times=1)

        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{vendor.sandbox.url}/api/v1/vocal-removal/generate",
                json={"callBackUrl": "https://callback.invalid/", "taskId": "t", "audioId": "a"},
                headers={"Authorization": f"Bearer {vendor.sandbox.api_key}"},
                timeout=0.2,
            )
        began = time.monotonic()
        assert vendor.accepted()
        assert time.monotonic() - began < 0.5
        assert vendor.sandbox.totals()["charges"] == 2

    def test_no_urls_returns_a_success_without_stems(self, vendor):
        vendor.sandbox.set_fault("read", "no_urls")

        data = vendor.separated()

        assert data["successFlag"] == "SUCCESS"
        assert data["response"] == {"id": None, "originUrl": None, "originData": None}


class TestTaskFaults:
    def test_stuck_task_stays_pending(self, vendor):
        vendor.sandbox.set_fault("task", "stuck")
        vendor_task_id = vendor.accepted()

        time.sleep(0.1)

        assert vendor.record(vendor_task_id)["successFlag"] == "PENDING"

    @pytest.mark.parametrize("status", ["GENERATE_AUDIO_FAILED", "CREATE_TASK_FAILED"])
    def test_failed_task_has_the_given_status_code_and_message(self, vendor, status):
        vendor.sandbox.set_fault("task", "fail", status=status, code=501, message="No luck")

        data = vendor.separated()

        assert (data["successFlag"], data["errorCode"], data["errorMessage"]) == (status, 501, "No luck")
        assert data["response"] is None

    @pytest.mark.parametrize(
        ("kind", "has_stems"), [("callback_exception", True), ("callback_exception_without_urls", False)]
    )
    def test_callback_exception_has_stems_unless_told_otherwise(self, vendor, kind, has_stems):
        vendor.sandbox.set_fault("task", kind)

        data = vendor.separated()

        assert data["successFlag"] == "CALLBACK_EXCEPTION"
        assert bool(data["response"]) is has_stems

    def test_unreachable_own_file_fails_with_451(self, vendor, free_port):
        data = vendor.separated(audioUrl=f"http://127.0.0.1:{free_port}/gone.mp3")

        assert (data["successFlag"], data["errorCode"]) == ("GENERATE_AUDIO_FAILED", 451)

    def test_own_file_above_20_mb_fails_with_451(self, vendor, httpserver):
        httpserver.expect_request("/big.wav").respond_with_data(bytes(20 * 1024 * 1024 + 1))

        data = vendor.separated(audioUrl=httpserver.url_for("/big.wav"))

        assert data["errorCode"] == 451
        assert "20 MB" in data["errorMessage"]

    def test_own_file_without_audio_fails_with_the_dialects_code(self, either, dialect, httpserver):
        httpserver.expect_request("/page.mp3").respond_with_data("<html>")

        data = either.separated(audioUrl=httpserver.url_for("/page.mp3"))

        assert data["errorCode"] == {"sunoapi": 400, "kie": 500}[dialect]


class TestFaultManagement:
    def test_fault_of_the_options_is_active_from_the_start(self, calling):
        caller = calling(faults=('{"place": "submit", "kind": "code", "code": 455, "times": 1}',))

        assert [caller.submit().json()["code"] for _ in range(2)] == [455, 200]

    def test_fault_counts_its_occurrences(self, vendor):
        fault_id = vendor.sandbox.set_fault("submit", "code", times=2)
        for _ in range(3):
            vendor.submit()

        (fault,) = vendor.sandbox.faults()

        assert (fault["id"], fault["fired"], fault["times"]) == (fault_id, 2, 2)

    def test_fault_skips_the_given_number_of_requests(self, vendor):
        vendor.sandbox.set_fault("submit", "code", code=455, skip=1, times=1)

        assert [vendor.submit().json()["code"] for _ in range(3)] == [200, 455, 200]

    @pytest.mark.parametrize("name", ["audio_id", "task_id"])
    def test_fault_of_one_track_spares_the_others(self, vendor, name):
        _, other = vendor.sandbox.catalogue()[:2]

        vendor.sandbox.set_fault("submit", "code", track=vendor.song[name])

        assert vendor.submit().json()["code"] == 500
        assert vendor.submit(taskId=other["task_id"], audioId=other["audio_id"]).json()["code"] == 200

    def test_fault_of_one_vendor_task_spares_the_others(self, vendor):
        mine, other = vendor.separated()["taskId"], vendor.separated()["taskId"]

        vendor.sandbox.set_fault("read", "null", track=mine)

        assert vendor.record(mine) is None
        assert vendor.record(other)

    def test_faults_are_removed_by_id_or_all_together(self, vendor):
        first = vendor.sandbox.set_fault("submit", "code", code=455)
        vendor.sandbox.set_fault("read", "null")
        vendor.session.delete(f"{vendor.sandbox.url}/sandbox/faults/{first}", timeout=5)

        vendor_task_id = vendor.accepted()

        assert vendor.record(vendor_task_id) is None
        vendor.sandbox.clear_faults()
        assert vendor.sandbox.faults() == []
        assert wait_for(lambda: vendor.record(vendor_task_id))

    @pytest.mark.parametrize(
        ("place", "kind", "message"),
        [("submit", "nonsense", "accept_then_drop"), ("nowhere", "html", "'submit', 'read', 'task'")],
        ids=["kind", "place"],
    )
    def test_unknown_place_or_kind_is_refused_with_the_valid_ones(self, vendor, place, kind, message):
        with pytest.raises(ValueError, match=message):
            vendor.sandbox.set_fault(place, kind)

    def test_unknown_setting_is_refused(self, vendor):
        with pytest.raises(ValueError, match="secnods"):
            vendor.sandbox.set_fault("read", "slow", secnods=1)

    def test_faults_occur_in_the_order_in_which_they_were_added(self):
        faults = Faults()
        for kind in ("html", "null"):
            faults.add(Fault(place="read", kind=kind, times=1))

        taken = [faults.take("read", {}) for _ in range(3)]

        assert [fault and fault.kind for fault in taken] == ["html", "null", None]

    def test_every_kind_of_every_place_is_valid(self):
        assert all(
            Fault(place=place, kind=kind).kind == kind for place, kinds in KINDS.items() for kind in kinds
        )
