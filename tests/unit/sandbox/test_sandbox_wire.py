"""The sandbox's answers, compared byte by byte with the documented or recorded ones."""

from __future__ import annotations

import re

import pytest
from sandbox_caller import NO_CALLBACK, READ, SUBMIT

from airflow_provider_vocalsep.sandbox.contract import signature_headers

JSON = "application/json;charset=UTF-8"

RECORD_KEYS = [
    *("taskId", "musicId", "callbackUrl", "musicIndex", "completeTime", "response", "successFlag"),
    *("createTime", "errorCode", "errorMessage"),
]
TWELVE_KEYS = [
    *("vocalUrl", "backingVocalsUrl", "drumsUrl", "bassUrl", "guitarUrl", "keyboardUrl", "percussionUrl"),
    *("stringsUrl", "synthUrl", "fxUrl", "brassUrl", "woodwindsUrl"),
]


class TestSubmit:
    def test_answer_contains_only_the_task_id(self, either):
        answer = either.submit()

        assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
        assert re.fullmatch(r'\{"code":200,"msg":"success","data":\{"taskId":"[0-9a-f]{32}"\}\}', answer.text)

    def test_every_submit_is_charged_as_a_new_task(self, vendor):
        assert vendor.accepted() != vendor.accepted()
        assert vendor.sandbox.totals()["charges"] == 2

    def test_default_type_is_separate_vocal(self, vendor):
        assert vendor.separated(type=None)["response"]["instrumentalUrl"]

    @pytest.mark.parametrize(
        ("fields", "code", "message"),
        [
            pytest.param({"callBackUrl": None}, 422, "Please enter callBackUrl.", id="no callback"),
            pytest.param({"callBackUrl": ""}, 422, "Please enter callBackUrl.", id="empty callback"),
            pytest.param({"callBackUrl": "/here"}, 422, "callBackUrl is invalid", id="relative callback"),
            pytest.param({"callBackUrl": ["a"]}, 422, "callBackUrl is invalid", id="list as callback"),
            pytest.param({"type": "karaoke"}, 422, "type is invalid", id="unknown type"),
            pytest.param({"type": {}}, 422, "type is invalid", id="object as type"),
            pytest.param({"taskId": None}, 422, "Record does not exist", id="no task"),
            pytest.param({"type": "split_stem_advanced"}, 422, "Please enter stemName.", id="no stem name"),
            pytest.param(
                {"type": "split_stem_advanced", "stemName": "../../etc"},
                422,
                "stemName is invalid",
                id="bad stem name",
            ),
            pytest.param(
                {"audioUrl": "http://127.0.0.1/a.mp3", "taskId": "a"},
                422,
                "audioUrl cannot be used with taskId and audioId",
                id="both sources",
            ),
        ],
    )
    def test_invalid_submit_is_refused_with_the_vendors_message(self, vendor, fields, code, message):
        answer = vendor.submit(**fields)

        assert answer.status_code == 200
        assert answer.json() == {"code": code, "msg": message, "data": None}
        assert list(answer.json()) == ["code", "msg", "data"]
        assert vendor.sandbox.totals()["charges"] == 0

    def test_unknown_track_is_refused(self, calling):
        caller = calling(tiny_stems=False, engine="dsp")

        assert caller.submit(audioId="376c687e-d439-42c1-b1e4-bcb43b095ec2").json() == {
            "code": 422,
            "msg": "Record does not exist",
            "data": None,
        }

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"], ids=["empty", "cut", "list", "no text"])
    def test_body_without_a_json_object_is_refused(self, vendor, body):
        headers = {"Content-Type": "application/json"}

        answer = vendor.session.post(vendor.sandbox.url + SUBMIT, data=body, headers=headers, timeout=30)

        assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 400, None)


class TestAuthorization:
    @pytest.mark.parametrize("header", ["Bearer wrong", "", None], ids=["wrong", "empty", "missing"])
    @pytest.mark.parametrize("path", [READ, "/api/v1/generate/credit", "submit"])
    def test_wrong_key_is_refused_with_the_recorded_body(self, vendor, path, header):
        vendor.session.headers["Authorization"] = header

        answer = vendor.submit() if path == "submit" else vendor.get(path)

        assert answer.status_code == 200
        assert answer.json() == {
            "code": 401,
            "msg": "Unauthorized – Authentication failed. Please check that your Authorization and "
            "Content-Type headers are correctly set.",
        }
        assert vendor.sandbox.totals()["refusals"] == {"401": 1}

    def test_kie_refuses_a_post_without_a_json_content_type(self, calling):
        for dialect, code in (("kie", 401), ("sunoapi", 400)):
            caller = calling(dialect=dialect)
            answer = caller.session.post(caller.sandbox.url + SUBMIT, data=b"x", timeout=30)
            assert answer.json()["code"] == code


class TestRecord:
    def test_separated_vocal_has_two_stems(self, either, dialect):
        data = either.separated()

        assert list(data) == RECORD_KEYS
        assert data["successFlag"] == "SUCCESS"
        assert (data["musicId"], data["musicIndex"]) == (either.song["audio_id"], 0)
        assert data["callbackUrl"] == NO_CALLBACK
        assert data["createTime"] <= data["completeTime"]
        assert len(str(data["createTime"])) == 13
        assert (data["errorCode"], data["errorMessage"]) == (None, None)
        response = data["response"]
        piano = ["pianoUrl"] if dialect == "kie" else []
        assert list(response) == ["id", "originUrl", "originData", "instrumentalUrl", *TWELVE_KEYS, *piano]
        assert {name for name in response if name.endswith("Url") and response[name]} == {
            "instrumentalUrl",
            "vocalUrl",
        }
        for item in response["originData"]:
            assert list(item) == ["duration", "audio_url", "stem_type_group_name", "id"]
            assert (
                item["audio_url"] == f"{either.sandbox.url}/s/{item['id']}_{item['stem_type_group_name']}.mp3"
            )

    def test_split_stem_names_twelve_stems_and_links_the_present_ones(self, either):
        response = either.separated(type="split_stem")["response"]

        assert response["instrumentalUrl"] is None
        assert [name for name in TWELVE_KEYS if response[name]] == [
            *("vocalUrl", "drumsUrl", "bassUrl", "guitarUrl", "keyboardUrl")
        ]
        assert {i["stem_type_group_name"] for i in response["originData"]} == {
            *("Vocals", "Drums", "Bass", "Guitar", "Keyboard")
        }

    def test_advanced_separation_is_a_pair_whose_file_names_keep_the_space(self, either):
        response = either.separated(type="split_stem_advanced", stemName="Lead Vocal")["response"]

        (pair,) = response["originData"]

        assert list(pair) == ["extract", "remove"]
        for item in pair.values():
            assert item["stem_type_group_name"] == "Lead Vocal"
            assert item["audio_url"].endswith(f"/s/{item['id']}_Lead Vocal.mp3")
            assert either.get(item["audio_url"]).content[:2] == b"\xff\xfb"

    def test_own_file_has_no_music_id(self, vendor):
        data = vendor.separated(audioUrl=vendor.song["audio_url"])

        assert (data["musicId"], data["musicIndex"], data["successFlag"]) == (None, None, "SUCCESS")

    def test_pending_task_has_no_response(self, calling):
        caller = calling(task_seconds=60)

        data = caller.record(caller.accepted())

        assert list(data) == RECORD_KEYS
        assert (data["successFlag"], data["response"], data["completeTime"]) == ("PENDING", None, None)

    def test_unknown_task_is_null(self, vendor):
        answer = vendor.get(READ, params={"taskId": "0" * 32})

        assert (answer.status_code, answer.text) == (200, '{"code":200,"msg":"success","data":null}')

    def test_task_is_null_until_it_is_visible(self, calling):
        caller = calling(visible_after=0.3)

        vendor_task_id = caller.accepted()

        assert caller.record(vendor_task_id) is None
        assert caller.finished(vendor_task_id)["successFlag"] == "SUCCESS"

    def test_task_is_pending_for_the_task_seconds(self, calling):
        caller = calling(task_seconds=0.3)

        data = caller.separated()

        assert 290 <= data["completeTime"] - data["createTime"] < 5000

    def test_tasks_end_no_faster_than_the_finish_rate(self, calling):
        caller = calling(finish_rate=10)
        records = [caller.finished(task_id) for task_id in [caller.accepted() for _ in range(3)]]

        ends = sorted(record["completeTime"] for record in records)

        assert ends[2] - ends[0] >= 180

    def test_links_have_the_public_address(self, calling):
        caller = calling(public_url="https://stems.example/vendor/")

        assert caller.separated()["response"]["vocalUrl"].startswith("https://stems.example/vendor/s/")


class TestBalance:
    def test_sunoapi_balance_is_an_integer(self, vendor):
        vendor.accepted()

        assert vendor.get("/api/v1/generate/credit").text == '{"code":200,"msg":"success","data":9990}'

    def test_kie_balance_may_have_a_fraction(self, calling):
        caller = calling(dialect="kie", credits=5926.25)

        caller.accepted()

        assert caller.get("/api/v1/chat/credit").text == '{"code":200,"msg":"success","data":5916.25}'

    def test_path_of_the_other_dialect_returns_404(self, vendor):
        assert vendor.get("/api/v1/chat/credit").status_code == 404


class TestCatalogue:
    def test_songs_have_ids_in_the_vendors_format(self, vendor):
        songs = vendor.sandbox.catalogue()

        assert len(songs) >= 4
        for song in songs:
            assert re.fullmatch(r"[0-9a-f]{32}", song["task_id"])
            assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", song["audio_id"])
            assert 15 <= song["duration"] <= 30
        assert len({song["audio_id"] for song in songs}) == len(songs)
        assert any(not song["title"].isascii() for song in songs)

    def test_mix_of_a_song_is_a_flac_file(self, vendor):
        assert vendor.get(vendor.song["audio_url"]).content[:4] == b"fLaC"

    def test_unknown_song_returns_404(self, vendor):
        assert vendor.get("/sandbox/songs/nobody.flac").status_code == 404


class TestSignature:
    @pytest.mark.parametrize(
        ("key", "task_id", "timestamp", "signature"),
        [
            (
                "test-webhook-key",
                "3e63b4cc88d52611159371f6af5571e7",
                1769670760,
                "QiVaoUMdBp430hmblmuYLfAvcd2FsHdu/UhR3s6vwQk=",
            ),
            (
                "whk_ünïcode",
                "5e72d367bdfbe44785e28d72cb1697c7",
                1700000000,
                "f0Lz+JIcnLer7e6Mp4s1rqm590WmXkZUHB8HhoVpgUM=",
            ),
        ],
        ids=["ascii", "utf-8"],
    )
    def test_headers_match_kies_examples(self, key, task_id, timestamp, signature):
        assert signature_headers(key, task_id, timestamp) == {
            "X-Webhook-Timestamp": str(timestamp),
            "X-Webhook-Signature": signature,
        }
