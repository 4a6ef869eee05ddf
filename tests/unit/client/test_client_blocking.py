from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from airflow_provider_vocalsep.api.dialects import get_dialect
from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    OutOfCreditsError,
    SubmitOutcomeUnknownError,
    UnreadableAnswerError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType, TaskStatus
from airflow_provider_vocalsep.client import blocking
from airflow_provider_vocalsep.client.blocking import VendorClient
from airflow_provider_vocalsep.client.pace import AdaptiveRate, Gate
from airflow_provider_vocalsep.client.settings import AccountSettings
from tests.support.manual_clock import ManualTimer
from tests.support.vendor_http import PENDING_RECORD, RECORD_PATH, SUBMIT_PATH

TRACK = Track(key="one", task_id="t1", audio_id="a1")


def client_of(base_url: str, dialect: str = "sunoapi") -> VendorClient:
    return VendorClient(AccountSettings("the-key", get_dialect(dialect), base_url.rstrip("/"), dialect))


@pytest.fixture
def client(httpserver):
    made = client_of(httpserver.url_for("/"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _retry_without_sleep(monkeypatch):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))


@contextmanager
def serve_one_connection(handle):
    """Run a TCP server that passes the first connection to `handle` and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            handle(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(5)


class TestSubmit:
    def test_request_is_sent_once_with_key_and_user_agent(self, httpserver, client):
        httpserver.expect_ordered_request(
            SUBMIT_PATH,
            method="POST",
            json={
                "taskId": "t1",
                "audioId": "a1",
                "type": "separate_vocal",
                "callBackUrl": "https://callback.invalid/vocalsep",
            },
        ).respond_with_json({"code": 200, "msg": "success", "data": {"taskId": "T1"}})

        assert client.submit(TRACK, SeparationType.SEPARATE_VOCAL) == "T1"

        request = httpserver.log[0][0]
        assert request.headers["Authorization"] == "Bearer the-key"
        assert request.headers["User-Agent"].startswith("airflow-provider-vocalsep/")
        assert len(httpserver.log) == 1

    def test_closed_port_means_that_nothing_was_sent(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]

        with pytest.raises(VendorUnreachableError, match="Could not connect"):
            client_of(f"http://127.0.0.1:{port}").submit(TRACK, SeparationType.SEPARATE_VOCAL)

    def test_unknown_host_means_that_nothing_was_sent(self):
        with pytest.raises(VendorUnreachableError):
            client_of("http://vocalsep.invalid").submit(TRACK, SeparationType.SEPARATE_VOCAL)

    def test_submit_over_a_dropped_connection_may_have_been_paid(self):
        with (
            serve_one_connection(lambda connection: connection.recv(65536)) as url,
            pytest.raises(SubmitOutcomeUnknownError, match="may have accepted and charged"),
        ):
            client_of(url).submit(TRACK, SeparationType.SEPARATE_VOCAL)

    def test_submit_with_a_truncated_answer_may_have_been_paid(self):
        def send_half(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"code":200,')

        with serve_one_connection(send_half) as url, pytest.raises(SubmitOutcomeUnknownError):
            client_of(url).submit(TRACK, SeparationType.SEPARATE_VOCAL)

    def test_submit_that_times_out_may_have_been_paid(self, monkeypatch):
        monkeypatch.setattr(blocking, "TIMEOUT", (1, 0.1))
        timed_out = threading.Event()

        with serve_one_connection(lambda _: timed_out.wait(5)) as url:
            with pytest.raises(SubmitOutcomeUnknownError):
                client_of(url).submit(TRACK, SeparationType.SEPARATE_VOCAL)
            timed_out.set()

    @pytest.mark.parametrize(
        "dialect, code, error, verdict",
        [
            ("sunoapi", 429, OutOfCreditsError, Verdict.OUT_OF_CREDITS),
            ("kie", 429, VendorError, Verdict.WAIT),
            ("kie", 402, OutOfCreditsError, Verdict.OUT_OF_CREDITS),
            ("sunoapi", 430, VendorError, Verdict.WAIT),
            ("sunoapi", 401, VendorError, Verdict.FATAL),
        ],
    )
    def test_refusal_under_http_200_raises_by_its_code(self, httpserver, dialect, code, error, verdict):
        httpserver.expect_request(SUBMIT_PATH).respond_with_json({"code": code, "msg": "nein"})

        with pytest.raises(error) as e:
            client_of(httpserver.url_for("/"), dialect).submit(TRACK, SeparationType.SEPARATE_VOCAL)
        assert (e.value.verdict, e.value.code, e.value.vendor_message) == (verdict, code, "nein")
        assert len(httpserver.log) == 1

    def test_redirect_is_not_followed(self, httpserver, client):
        httpserver.expect_request(SUBMIT_PATH).respond_with_data(
            "", status=307, headers={"Location": "/elsewhere"}
        )

        with pytest.raises(VendorError):
            client.submit(TRACK, SeparationType.SEPARATE_VOCAL)
        assert len(httpserver.log) == 1


class TestReadTask:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param({"response_data": "<html>502</html>", "status": 502}, id="html"),
            pytest.param({"response_data": '{"code":200,"data":{"task', "status": 200}, id="truncated"),
            pytest.param({"response_data": '{"code":430,"msg":"slow down"}', "status": 200}, id="too fast"),
            pytest.param(
                {"response_data": "", "status": 429, "headers": {"Retry-After": "1"}}, id="http 429"
            ),
        ],
    )
    def test_temporary_error_is_retried(self, httpserver, answer):
        timer = ManualTimer()
        httpserver.expect_ordered_request(RECORD_PATH).respond_with_data(**answer)
        httpserver.expect_ordered_request(RECORD_PATH, query_string={"taskId": "T1"}).respond_with_json(
            PENDING_RECORD
        )
        dialect = "kie" if answer["status"] == 429 else "sunoapi"
        client = client_of(httpserver.url_for("/"), dialect)
        client._read_gate = Gate(AdaptiveRate(20, 10), now=timer, sleep=timer.sleep)

        task = client.read_task("T1")

        assert task.status is TaskStatus.PENDING

    def test_lasting_error_is_raised_after_four_tries(self, httpserver, client):
        httpserver.expect_request(RECORD_PATH).respond_with_data("<html>", status=200)

        with pytest.raises(UnreadableAnswerError, match="<html>"):
            client.read_task("T1")
        assert len(httpserver.log) == 4

    def test_wrong_key_is_not_retried(self, httpserver, client):
        httpserver.expect_request(RECORD_PATH).respond_with_json({"code": 401, "msg": "Unauthorized"})

        with pytest.raises(VendorError, match="Check the API key"):
            client.read_task("T1")
        assert len(httpserver.log) == 1

    def test_unknown_task_is_none(self, httpserver, client):
        httpserver.expect_request(RECORD_PATH).respond_with_json(
            {"code": 200, "msg": "success", "data": None}
        )

        assert client.read_task("T1") is None

    def test_dropped_connection_raises_answer_lost_error(self):
        with serve_one_connection(lambda connection: connection.recv(65536)) as url:
            client = client_of(url)
            client._read = lambda call: call()
            with pytest.raises(AnswerLostError):
                client.read_task("T1")


@pytest.mark.parametrize(
    "dialect, path, data, balance",
    [("sunoapi", "/api/v1/generate/credit", 100, 100.0), ("kie", "/api/v1/chat/credit", 5916.25, 5916.25)],
)
def test_balance_is_read_at_the_path_of_the_dialect(httpserver, dialect, path, data, balance):
    httpserver.expect_request(path).respond_with_json({"code": 200, "msg": "success", "data": data})

    assert client_of(httpserver.url_for("/"), dialect).credits() == balance
