"""The receiver: accepts the vendor's callbacks, refuses all others, and reveals nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy.exc import OperationalError

from airflow_provider_vocalsep.api.signature import sign
from airflow_provider_vocalsep.callbacks import connection_cache, receiver, resume
from airflow_provider_vocalsep.callbacks.token import mint
from airflow_provider_vocalsep.callbacks.verification import MAX_BODY

VENDOR_TASK = "3e63b4cc88d52611159371f6af5571e7"
SECRET = "unit-test-secret-0123456789"


class TestValidCallback:
    def test_callback_with_a_valid_token_is_delivered(self, vendor, delivered, claims):
        answer = vendor()

        assert (answer.status_code, answer.json()) == (200, {"status": "received"})
        (delivery,) = delivered
        assert delivery.claims == claims
        assert (delivery.callback.task_id, delivery.callback.code) == (VENDOR_TASK, 200)

    @pytest.mark.parametrize(
        "body",
        [
            {
                "code": 200,
                "data": {"taskId": VENDOR_TASK, "vocal_separation_info": {"vocal_url": "https://x/y"}},
            },
            {
                "code": 500,
                "msg": "Vocal separation failed",
                "data": {"task_id": VENDOR_TASK, "vocal_removal_info": None},
            },
            {"code": "400", "msg": "wrong", "taskId": VENDOR_TASK, "data": None},
            {"code": 200, "task_id": VENDOR_TASK, "data": []},
        ],
    )
    def test_every_documented_body_is_parsed(self, vendor, delivered, body):
        answer = vendor(json.dumps(body))

        assert answer.status_code == 200
        assert delivered[0].callback.task_id == VENDOR_TASK

    def test_content_type_with_a_charset_is_accepted(self, vendor):
        assert vendor(headers={"content-type": "application/json;charset=UTF-8"}).status_code == 200


class TestRefusal:
    @pytest.mark.parametrize(
        "changed",
        [
            {"secret": "x" * 32},
            {"token": "nonsense"},
            {"token": "a.b"},
            {"expires": 1},
            {"conn_id": "no_such_connection"},
            {"conn_id": "x\n" * 40},
        ],
        ids=["forged", "nonsense", "a.b", "expired", "other connection", "odd connection"],
    )
    def test_invalid_token_is_refused_before_the_body_is_read(self, vendor, delivered, changed, caplog):
        answer = vendor(b"x" * (MAX_BODY + 1), **changed)

        assert (answer.status_code, answer.json()) == (401, {"status": "refused"})
        assert delivered == []
        assert "\n" not in "".join(record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"x" * 10_000_000, 413),
            (b"[" * 30_000 + b"]" * 30_000, 422),
            (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 422),
            (b"", 422),
            (b"null", 422),
            (b"\xff\xfe\x00", 422),
            (b'{"code": 200}', 422),
            (b'{"code": 1e999, "data": {"task_id": "x"}}', 422),
            (b'{"code": 200, "data": {"task_id": {"$ne": null}}}', 422),
        ],
        ids=[
            "10 MB",
            "deep list",
            "deep object",
            "empty",
            "null",
            "not UTF-8",
            "no id",
            "infinite",
            "no text",
        ],
    )
    def test_body_that_is_no_callback_is_refused(self, vendor, delivered, body, status):
        answer = vendor(body)

        assert (answer.status_code, answer.json()) == (status, {"status": "refused"})
        assert delivered == []

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_other_content_type_is_refused(self, vendor, delivered, kind):
        answer = vendor(headers={"content-type": kind})

        assert answer.status_code == 415
        assert delivered == []

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
    def test_other_method_is_refused(self, vendor, method):
        assert vendor(method=method).status_code == 405

    def test_trailing_slash_is_not_redirected(self, vendor):
        assert vendor(token="nonsense/").status_code == 404

    def test_no_answer_reveals_a_name(self, vendor):
        answers = [vendor(), vendor(secret="x" * 32), vendor(b"{"), vendor(method="GET")]

        sent = " ".join(f"{answer.headers} {answer.text}" for answer in answers)
        assert not any(name in sent for name in ("my-dag", "my-run", "my-task", "vocalsep_default"))

    def test_slow_body_is_refused_after_a_timeout(self, connection, claims, delivered, monkeypatch):
        monkeypatch.setattr(receiver, "_BODY_TIMEOUT", 0.05)
        sent = []

        async def receive():
            await asyncio.sleep(0.03)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message):
            sent.append(message)

        path = f"/callback/{mint(claims, SECRET)}"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }

        asyncio.run(receiver.app(scope, receive, send))

        assert sent[0]["status"] == 408
        assert delivered == []

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        body=st.binary(max_size=400)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["code", "msg", "data", "task_id", "taskId"]), inner)
            ),
        ).map(lambda value: json.dumps(value).encode()),
        kind=st.sampled_from(["application/json", "APPLICATION/JSON; x=y", "text/html", ""]),
    )
    def test_no_body_breaks_the_receiver(self, vendor, body, kind):
        assert vendor(body, headers={"content-type": kind}).status_code in (200, 415, 422)


class TestVendorSignature:
    KEY = "webhook-hmac-key"

    def headers(self, *, at=0.0, key=KEY, task=VENDOR_TASK):
        when = str(int(time.time() + at))
        return {"X-Webhook-Timestamp": when, "X-Webhook-Signature": sign(key, task, when)}

    def test_signature_is_required_if_the_connection_has_the_key(self, vendor, connection, delivered):
        connection(webhook_hmac_secret=self.KEY)

        assert vendor().status_code == 401
        assert vendor(headers=self.headers()).status_code == 200
        assert len(delivered) == 1

    @pytest.mark.parametrize(
        "wrong",
        [{"key": "another"}, {"task": "another"}, {"at": -301}, {"at": 302}],
        ids=["key", "task", "old", "from the future"],
    )
    def test_wrong_signature_is_refused(self, vendor, connection, delivered, wrong):
        connection(webhook_hmac_key=self.KEY)

        assert vendor(headers=self.headers(**wrong)).status_code == 401
        assert delivered == []


class TestDatabase:
    def raise_error(self, *_):
        raise OperationalError("SELECT", {}, Exception("no route to host"))

    def test_unreachable_database_is_answered_with_503_and_retry_after(self, vendor, monkeypatch):
        monkeypatch.setattr(resume, "deliver", self.raise_error)
        monkeypatch.setattr(receiver, "_DATABASE_TRIES", 1)

        answer = vendor()

        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "route" not in answer.text

    def test_locked_database_is_tried_again(self, vendor, monkeypatch):
        tries = []

        def locked_once(delivery):
            tries.append(delivery)
            if len(tries) == 1:
                self.raise_error()
            return resume.Effect.RESUMED, False

        monkeypatch.setattr(resume, "deliver", locked_once)

        assert vendor().status_code == 200
        assert len(tries) == 2


class TestConnectionCache:
    @pytest.fixture
    def reads(self, monkeypatch):
        """The ids of the connections that are read."""
        conn_ids = []
        original = connection_cache._read_connection
        monkeypatch.setattr(
            connection_cache,
            "_read_connection",
            lambda conn_id: conn_ids.append(conn_id) or original(conn_id),
        )
        return conn_ids

    def test_connection_is_read_once_for_many_deliveries(self, vendor, reads):
        for _ in range(5):
            vendor()

        assert reads == ["vocalsep_default"]

    def test_connection_is_read_again_for_a_token_of_its_new_secret(self, vendor, monkeypatch):
        vendor()
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        value = json.loads(os.environ["AIRFLOW_CONN_VOCALSEP_DEFAULT"])
        value["extra"]["callback_secret"] = "another-secret-0123456789"
        monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(value))

        assert vendor(secret="another-secret-0123456789").status_code == 200
        assert vendor().status_code == 401

    def test_flood_of_forged_tokens_does_not_read_the_connection_more_often(self, vendor, reads, monkeypatch):
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)

        answers = [vendor(secret="a-secret-of-a-stranger") for _ in range(20)]

        assert {answer.status_code for answer in answers} == {401}
        assert reads == ["vocalsep_default"]

    def test_connection_without_a_callback_secret_accepts_nothing(self, vendor, connection):
        connection(callback_secret="", callback_base_url="")

        assert vendor().status_code == 401

    def test_old_secret_is_accepted_during_a_rotation(self, vendor, connection):
        connection(callback_secret=f"{'n' * 32}, {SECRET}")

        assert vendor().status_code == 200
