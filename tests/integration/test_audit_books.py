"""After runs with every kind of fault, the totals of audit, page and the vendor's account are equal."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jsonschema
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from click.testing import CliRunner

from airflow_provider_vocalsep.api.callbacks import parse_callback
from airflow_provider_vocalsep.audit.schemas import load_schema
from airflow_provider_vocalsep.callbacks.inbox import BATCH_KEY, inbox_key, record_delivery
from airflow_provider_vocalsep.callbacks.token import verify
from airflow_provider_vocalsep.cli.main import main
from airflow_provider_vocalsep.client import pace
from airflow_provider_vocalsep.demo.sandbox import sandbox_connection
from airflow_provider_vocalsep.operators.vocal_separation import (
    VocalSeparationBatchOperator,
    VocalSeparationOperator,
)
from airflow_provider_vocalsep.sandbox.server import running_sandbox
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore
from airflow_provider_vocalsep.ui.destinations import Destination
from airflow_provider_vocalsep.ui.documents import read_entry
from airflow_provider_vocalsep.ui.index import RunIndex
from airflow_provider_vocalsep.ui.refresh import Refresher
from airflow_provider_vocalsep.ui.search import RunSearch

SECRET = "integration-secret-0123456789"


def tracks(count, start=0):
    return [
        {"key": f"tr/{n} 🎵", "task_id": f"{n:032x}", "audio_id": f"{n:08x}-0000-4000-8000-000000000000"}
        for n in range(start, start + count)
    ]


class TaskStates:
    """Airflow's task state stores, with callbacks stored as the receiver stores them."""

    def __init__(self):
        self.values, self.lock = {}, threading.Lock()

    def of(self, run_id):
        """The store of a run's only task instance."""
        return SimpleNamespace(get=lambda key: self.values.get((run_id, key)))

    def record(self, claims, callback):
        key = claims.run_id, BATCH_KEY if claims.batch else inbox_key(claims.attempt_id)
        with self.lock:
            before = self.values.get(key)
            own = (before or {}).get(claims.attempt_id) if claims.batch else before
            stored, _ = record_delivery(own, callback, datetime.now(tz=timezone.utc))
            if stored is not None:
                self.values[key] = {**(before or {}), claims.attempt_id: stored} if claims.batch else stored


@pytest.fixture
def task_states():
    return TaskStates()


@pytest.fixture
def receiver(task_states):
    """Receive callbacks over HTTP, with the receiver's own verification and without Airflow's database."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            claims = verify(self.path.rsplit("/", 1)[1], [SECRET], now=time.time())
            task_states.record(claims, parse_callback(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def vendor(tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "tiny-stems"
    options = {"tiny_stems": True, "task_seconds": 0.3, "submit_rate": "1000/1s", "credits": 100_000}
    with running_sandbox(in_process=True, cache_dir=cache, **options) as sandbox:
        yield sandbox


@pytest.fixture
def connected(vendor, seaweed, receiver, monkeypatch):
    connection = sandbox_connection(vendor)
    connection["extra"] |= {
        "submit_rate": "1000/1s",
        "callback_base_url": receiver,
        "callback_secret": SECRET,
    }
    monkeypatch.setenv("AIRFLOW_CONN_VOCALSEP_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(seaweed.connection))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint_url)
    yield
    pace._gates.clear()


@pytest.fixture
def run(connected, destination, task_states):
    """Run a try of the only task instance of a DAG run, without retries."""
    tries = Counter()

    def run(operator, what, *, run_id="run", user=None, **arguments):
        tries[run_id] += 1
        ids = {"dag_id": "dag", "run_id": run_id, "task_id": "separate", "map_index": -1}
        ti = SimpleNamespace(**ids, try_number=tries[run_id], max_tries=0, xcom_push=lambda key, value: None)
        dag_run = SimpleNamespace(triggering_user_name=user)
        quick = {"deferrable": False, "poll_interval": 0.1, "timeout": 60, "destination": destination}
        if operator is VocalSeparationBatchOperator:
            quick["linger"] = 0.2
        name = "track" if operator is VocalSeparationOperator else "tracks"
        made = operator(task_id="separate", **{name: what, **quick, **arguments})
        return made.execute({"ti": ti, "dag_run": dag_run, "task_state_store": task_states.of(run_id)})

    return run


@pytest.fixture
def audited(connected, destination):
    """Return the totals of ``vocalsep audit``."""

    def audited(*options):
        answer = CliRunner().invoke(main, ["audit", destination, "--format", "json", *options])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)["totals"]

    return audited


@pytest.fixture
def paged(s3, destination, tmp_path):
    """Return the totals of the page: of its runs, and of the histories of their tracks."""

    def paged():
        location, store = Location.parse(destination), ObjectStore(s3)
        index = RunIndex(tmp_path / "runs.sqlite")
        Refresher(index, location, lambda: store).refresh({})
        search = RunSearch(index)
        runs, _ = search.runs({"dag"})
        shown = Destination(location, "aws_default", {location.ledger})
        rows = search.tracks({"dag"}, limit=1000).rows
        entries = {row["entry"]: read_entry(store, shown, row) for row in rows if row.get("entry")}
        events = [event for entry in entries.values() for event in entry.history]
        return {
            **{name: sum(run[name] for run in runs) for name in ("submits", "credits")},
            "failures": sum(event.event == "failed" for event in events),
            "callbacks": sum(event.count for event in events if event.event == "called_back"),
        }

    return paged


def expect_on_page(books):
    """Return the totals that the page shows; its credits are without those given back."""
    names = ("submits", "credits", "failures", "callbacks")
    return {**{name: books[name] for name in names}, "credits": books["credits"] - books["given_back"]}


def pick(totals, names):
    return {name: totals[name] for name in names}


def wait_for_callbacks(vendor, count):
    until = time.monotonic() + 20
    while vendor.totals()["callbacks"] < count and time.monotonic() < until:
        time.sleep(0.1)


def run_with_faults(vendor, run):
    """Run a batch of 24 tracks with every kind of fault, then clear the faults."""
    catalogue = tracks(24)

    def fault(place, kind, n, **fields):
        vendor.set_fault(place, kind, track=catalogue[n]["audio_id"], **fields)

    fault("task", "fail", 1, code=451, message="no audio there")
    fault("task", "fail", 2, code=500, message="bad luck", times=1)
    fault("task", "fail", 3, code=531, message="given back", times=1)
    fault("task", "fail", 12, code=500, status="CREATE_TASK_FAILED", times=1)
    fault("submit", "code", 4, code=400, message="audio unusable")
    fault("submit", "code", 5, code=430, times=2)
    fault("submit", "http_429", 13, seconds=0, times=1)
    fault("submit", "accept_then_drop", 6, times=1)
    fault("submit", "accept_then_drop", 7, times=1)
    fault("callback", "duplicate", 8)
    fault("callback", "early", 9)
    fault("callback", "duplicate", 2, times=1)
    fault("download", "html", 10, status=503)
    fault("read", "html", 11, times=2)
    with pytest.raises(AirflowFailException, match="of 24 tracks failed"):
        run(VocalSeparationBatchOperator, catalogue, user="ann")
    vendor.clear_faults()
    return catalogue


class TestTotals:
    def test_audit_and_page_equal_the_vendors_account_after_faults(
        self, vendor, run, audited, paged, destination, s3, booked
    ):
        catalogue = run_with_faults(vendor, run)
        assert run(VocalSeparationBatchOperator, catalogue, user="ann")["landed"] == 24
        # A callback after the end of a task enters the history when the task runs again.
        wait_for_callbacks(vendor, 28 + 3)
        assert run(VocalSeparationBatchOperator, catalogue, user="ann")["landed"] == 24

        books = booked(vendor)
        assert books == {
            "submits": 28,
            "credits": 280,
            "given_back": 10,
            "failures": 4,
            "refusals": 4,
            "callbacks": 31,
        }
        totals = audited()
        assert pick(totals, books) == books
        assert totals["in_doubt"] == 0
        assert totals["states"] == {"landed": 24}
        assert paged() == expect_on_page(books)

        head = json.loads(report_of(s3, destination).splitlines()[0])
        assert (head["user"], head["separation_type"]) == ("ann", "separate_vocal")

    def test_each_run_has_only_what_it_paid_itself(self, vendor, run, audited, paged, booked):
        catalogue = tracks(6)
        vendor.set_fault("task", "fail", track=catalogue[2]["audio_id"], code=500, times=1)
        run(VocalSeparationBatchOperator, catalogue[:3], run_id="first")
        same_audio = {**catalogue[0], "key": "another name"}
        run(VocalSeparationBatchOperator, [*catalogue, same_audio], run_id="second")
        run(VocalSeparationOperator, catalogue[5], run_id="third")

        assert [audited("--run", name)["submits"] for name in ("first", "second", "third")] == [4, 3, 0]
        assert audited()["submits"] == booked(vendor)["submits"] == paged()["submits"] == 7
        assert audited()["credits"] == booked(vendor)["credits"] == paged()["credits"] == 70

    def test_audit_and_page_equal_the_vendors_account_after_single_tracks(
        self, vendor, run, audited, paged, booked
    ):
        one, two, three = tracks(3)
        vendor.set_fault("task", "fail", track=one["audio_id"], code=451, times=1)
        vendor.set_fault("submit", "accept_then_drop", track=two["audio_id"], times=1)
        vendor.set_fault("callback", "duplicate", track=three["audio_id"])
        with pytest.raises(AirflowFailException, match="could not separate"):
            run(VocalSeparationOperator, one, run_id="one")
        for again in range(2):
            for name, track in (("one", one), ("two", two), ("three", three)):
                run(VocalSeparationOperator, track, run_id=name)
            if not again:
                wait_for_callbacks(vendor, 5)

        books = booked(vendor)
        assert (books["submits"], books["failures"], books["callbacks"]) == (4, 1, 5)
        assert pick(audited(), books) == books
        assert paged() == expect_on_page(books)

    def test_submit_in_doubt_is_not_counted_as_paid(self, vendor, run, audited, booked):
        (track,) = tracks(1)
        vendor.set_fault("submit", "accept_then_drop", times=1)
        vendor.set_fault("callback", "none", times=1)

        for _ in range(2):
            with pytest.raises(AirflowFailException, match="may have been paid"):
                run(VocalSeparationOperator, track, adoption_grace=0.5)
        totals = audited()
        assert (totals["submits"], totals["in_doubt"], booked(vendor)["submits"]) == (0, 1, 1)
        assert totals["states"] == {"in_doubt": 1}

        run(VocalSeparationOperator, track, adoption_grace=0.5, on_lost_submit="resubmit")
        totals = audited()
        assert (totals["submits"], totals["in_doubt"], booked(vendor)["submits"]) == (1, 1, 2)
        assert totals["states"] == {"landed": 1}


def test_every_file_is_valid_by_its_schema(vendor, run, destination, s3):
    catalogue = run_with_faults(vendor, run)
    run(VocalSeparationBatchOperator, catalogue)
    vendor.set_fault("task", "fail", code=451, message="no audio there")
    with pytest.raises(AirflowFailException):
        run(VocalSeparationOperator, tracks(1, 90)[0], run_id="single")
    checked = Counter()
    for key, body in objects(s3, destination).items():
        for name, text in parts_of(key, body):
            jsonschema.validate(json.loads(text), load_schema(name), jsonschema.Draft202012Validator)
            checked[name] += 1

    assert checked == {
        "ledger-entry-1": 25,
        "manifest-1": 24,
        "run-report-head-1": 2,
        "run-report-row-1": 25,
    }


def parts_of(key, body):
    if "/_vocalsep/ledger/" in key and key.endswith(".json"):
        yield "ledger-entry-1", body
    elif key.endswith("/manifest.json"):
        yield "manifest-1", body
    elif "/_vocalsep/runs/" in key:
        head, *rows = body.splitlines()
        yield "run-report-head-1", head
        for row in rows:
            yield "run-report-row-1", row


def objects(s3, destination):
    location, store = Location.parse(destination), ObjectStore(s3)
    items = store.list_objects(location.bucket, location.listing_prefix)
    return {item.key: store.get(location.bucket, item.key) for item in items}


def report_of(s3, destination, run_id="run"):
    (report,) = [
        body for key, body in objects(s3, destination).items() if f"/_vocalsep/runs/dag/{run_id}/" in key
    ]
    return report
