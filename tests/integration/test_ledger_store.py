"""The ledger in a real S3 server: races, round trips, broken objects, broken stores."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import (
    Attach,
    EntryState,
    Identity,
    InDoubt,
    Intent,
    Landed,
    Landing,
    Ledger,
    LedgerEntry,
    LedgerError,
    Outcome,
    S3LedgerStore,
    Submit,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.ledger.ledger import utc_now
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.demo.seaweed import SeaweedServer

    Caplog = pytest.LogCaptureFixture

ONE = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
TWO = Identity("sunoapi", "t/b", SeparationType.SPLIT_STEM)
MANIFEST = "s3://stems/one/separate_vocal/manifest.json"

#: Short time-outs and no retries.
IMPATIENT = Config(connect_timeout=2, read_timeout=2, retries={"max_attempts": 0})

CONDITIONS = {"If-Match", "If-None-Match"}
ENTRY = b'{"account": "a", "source": "s", "separation_type": "separate_vocal", "track_key": "k", "state": '


def task_instance(run: str) -> TaskInstanceRef:
    return TaskInstanceRef(dag_id="d", run_id=run, task_id="separate", map_index=3, try_number=1)


def intent(run: str) -> Intent:
    return Intent(attempt_id=f"attempt-{run}", asked_by=task_instance(run), track_key="one", title="🎵 One")


def run_whole_way(ledger: Ledger, identity: Identity) -> list[Any]:
    """Take a separation from claim to landing; return its decision, then another run's after each step."""
    landing = Landing(at=utc_now(), vendor_task_id="T1", stems=2, bytes=9)
    decisions: list[Any] = [ledger.claim(identity, intent("run"), manifest_uri=MANIFEST)]
    for step in (
        lambda: None,
        lambda: ledger.record_submitted(identity, "attempt-run", "T1"),
        lambda: ledger.record_separated(identity, "T1", task_instance("run")),
        lambda: ledger.record_landed(identity, MANIFEST, landing, task_instance("run")),
    ):
        step()
        decisions.append(ledger.claim(identity, intent("another"), manifest_uri=MANIFEST))
    return decisions


@pytest.fixture
def ledger(s3: S3Client, bucket: str, prefix: str) -> Ledger:
    return Ledger(S3LedgerStore(ObjectStore(s3), Location(bucket, prefix)))


def read_object(ledger: Ledger) -> bytes:
    """Return the object of ``ONE``."""
    bucket, key = ledger.uri_of(ONE).removeprefix("s3://").split("/", 1)
    return ledger.store.store.client.get_object(Bucket=bucket, Key=key)["Body"].read()


def write_object(ledger: Ledger, body: bytes) -> None:
    """Replace the object of ``ONE``."""
    bucket, key = ledger.uri_of(ONE).removeprefix("s3://").split("/", 1)
    ledger.store.store.client.put_object(Bucket=bucket, Key=key, Body=body)


def warnings_of(caplog: Caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("airflow_provider_vocalsep")]


def run_concurrently(threads: int, do: Callable[[int], Any]) -> list[Any]:
    barrier = Barrier(threads)

    def start(number: int) -> Any:
        barrier.wait(30)
        return do(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


#: States in the order of an entry's life.
ORDER = [EntryState.CLAIMED, EntryState.SUBMITTED, EntryState.SEPARATED, EntryState.LANDED]


class RecordingStore(S3LedgerStore):
    """Records each entry that it wrote, by the version that it replaced."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.written: dict[str | None, tuple[str | None, LedgerEntry]] = {}

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        etag = super().write(identity, entry, version)
        self.written[version] = etag, entry.model_copy(deep=True)
        return etag


def order_versions(stores: list[RecordingStore]) -> list[LedgerEntry]:
    """Return all versions of an entry in the order in which each replaced the one before."""
    replaced = {**stores[0].written, **stores[1].written}
    assert len(replaced) == sum(len(store.written) for store in stores), "two writers replaced one version"
    version, ordered = None, []
    while version in replaced:
        version, entry = replaced.pop(version)
        ordered.append(entry)
    assert not replaced, "an entry replaced another version than the one it was made from"
    return ordered


class TestConcurrentWriters:
    @pytest.mark.parametrize("shared", [False, True], ids=["a client each", "one ledger"])
    @pytest.mark.parametrize("before", [0, 1], ids=["a new track", "a failed track"])
    def test_exactly_one_of_many_concurrent_claims_may_submit(
        self, seaweed: SeaweedServer, ledger: Ledger, caplog: Caplog, shared: bool, before: int
    ) -> None:
        """A new track is written with If-None-Match, a failed one with If-Match."""
        store = ledger.store
        ledgers = [ledger] * 16
        if not shared:
            ledgers = [Ledger(S3LedgerStore(ObjectStore(seaweed.client()), store.location)) for _ in ledgers]
        if before:
            ledger.claim(ONE, intent("first"))
            ledger.record_refused(ONE, "attempt-first", Outcome(at=utc_now(), verdict=Verdict.RETRY))

        decisions = run_concurrently(16, lambda number: ledgers[number].claim(ONE, intent(f"run-{number}")))

        assert Counter(map(type, decisions)) == {Submit: 1, InDoubt: 15}

        entry = ledger.read(ONE)
        assert len(entry.attempts) == before + 1
        assert [d.attempt_id for d in decisions if isinstance(d, Submit)] == [entry.current.attempt_id]

        doubts = [d for d in decisions if isinstance(d, InDoubt)]
        assert all(doubt.attempt == entry.current and doubt.in_flight for doubt in doubts)
        assert warnings_of(caplog) == []

    def test_concurrent_writes_to_one_history_lose_no_event(self, ledger: Ledger) -> None:
        ledger.claim(ONE, intent("run"))

        def write(number: int) -> None:
            for line in range(10):
                ledger.append_event(
                    ONE, "noted", by=task_instance(f"run-{number}"), message=f"{number}.{line}"
                )

        run_concurrently(8, write)

        lines = [event.message for event in ledger.read(ONE).history[1:]]

        assert sorted(lines) == [f"{number}.{line}" for number in range(8) for line in range(10)]
        assert sorted(lines, key=lambda m: m[0]) == sorted(lines), "events of one writer are out of order"


class TestTwoConcurrentRuns:
    """Both write one entry at the same time, many times over: no order of their writes loses anything."""

    ROUNDS, AT_MOST = 40, 400

    def test_two_concurrent_runs_lose_no_event_and_undo_no_state(
        self, seaweed: SeaweedServer, ledger: Ledger
    ) -> None:
        stores = [RecordingStore(ObjectStore(seaweed.client()), ledger.store.location) for _ in range(2)]
        orders: set[tuple[tuple[str, str | None], ...]] = set()
        for round_number in range(self.AT_MOST):
            if round_number >= self.ROUNDS and len(orders) > 5:
                break
            identity = Identity("sunoapi", f"t/{round_number}", SeparationType.SEPARATE_VOCAL)
            run_concurrently(
                2,
                lambda number, identity=identity: self.run(Ledger(stores[number]), identity, f"run-{number}"),
            )
            written = order_versions(stores)
            for before, after in pairwise(written):
                assert after.history[: len(before.history)] == before.history
                assert [a.attempt_id for a in after.attempts[: len(before.attempts)]] == [
                    a.attempt_id for a in before.attempts
                ]
                assert set(before.landings) <= set(after.landings)
                assert ORDER.index(after.state) >= ORDER.index(before.state)
            entry = written[-1]
            assert entry == ledger.read(identity)
            assert entry.state is EntryState.LANDED
            notes = [event.message for event in entry.history if event.event == "noted"]
            assert sorted(notes) == sorted(f"run-{run} {step}" for run in range(2) for step in range(4))
            assert Counter(e.event for e in entry.history)["submitted"] == 1
            orders.add(tuple((event.event, event.message) for event in entry.history))
            for store in stores:
                store.written.clear()

        assert len(orders) > 5, "the two runs did not interleave in enough ways"

    def run(self, ledger: Ledger, identity: Identity, run: str) -> None:
        """Do the work of one run: the run with the claim submits, and both record separated and landed."""

        def note(step: int) -> None:
            ledger.append_event(identity, "noted", by=task_instance(run), message=f"{run} {step}")

        decision = ledger.claim(identity, intent(run), manifest_uri=MANIFEST)
        note(0)
        if isinstance(decision, Submit):
            ledger.record_submitted(identity, decision.attempt_id, "T1")
        while (known := ledger.read(identity)) is None or not known.current.vendor_task_id:
            time.sleep(0.001)
        note(1)
        ledger.record_separated(identity, "T1", task_instance(run))
        note(2)
        landing = Landing(at=utc_now(), vendor_task_id="T1", stems=2, bytes=9)
        ledger.record_landed(identity, f"{MANIFEST}/{run}", landing, task_instance(run))
        note(3)


class TestLifeOfAnEntry:
    def test_another_run_is_in_doubt_then_attaches_then_has_landed(self, ledger: Ledger) -> None:
        ours, doubt, submitted, separated, landed = run_whole_way(ledger, ONE)
        entry = ledger.read(ONE)
        known = "T1", entry.current.submitted_at, "attempt-run"

        assert ours == Submit("attempt-run")
        assert isinstance(doubt, InDoubt)
        assert doubt.in_flight
        assert [submitted, separated, landed] == [Attach(*known), Attach(*known), Landed(*known)]
        assert len(entry.attempts) == 1

    def test_entry_is_plain_json_at_the_documented_key(
        self, ledger: Ledger, bucket: str, prefix: str
    ) -> None:
        run_whole_way(ledger, ONE)

        digest = hashlib.sha256(b'["sunoapi", "t/a", "separate_vocal", ""]').hexdigest()

        assert ledger.uri_of(ONE) == f"s3://{bucket}/{prefix}/{digest[:2]}/{digest}.json"

        content = json.loads(read_object(ledger))
        assert (content["state"], content["source"], content["title"]) == ("landed", "t/a", "🎵 One")
        assert content["attempts"][0]["vendor_task_id"] == "T1"
        assert content["landings"][MANIFEST]["stems"] == 2
        assert [(e["event"], e["count"]) for e in content["history"]] == [
            (name, 1) for name in ("claimed", "submitted", "attached", "separated", "attached", "landed")
        ]

    def test_claim_holds_when_botocore_repeats_its_write_after_a_lost_answer(
        self, seaweed: SeaweedServer, ledger: Ledger
    ) -> None:
        client, statuses = seaweed.client(), []

        def send_before(request: Any, **_: Any) -> None:
            if request.url.endswith(".json"):
                statuses.append(client._endpoint.http_session.send(request).status_code)
                request.reset_stream()

        client.meta.events.register("before-send.s3.PutObject", send_before)

        flaky = Ledger(S3LedgerStore(ObjectStore(client), ledger.store.location))

        assert flaky.claim(ONE, intent("run")) == Submit("attempt-run")
        assert statuses == [200]
        assert len(ledger.read(ONE).attempts) == 1

    @pytest.mark.parametrize(
        "where",
        [
            pytest.param(lambda entry: entry, id="in the entry"),
            pytest.param(lambda entry: entry["attempts"][0], id="in an attempt"),
            pytest.param(lambda entry: entry["landings"][MANIFEST], id="in a landing"),
            pytest.param(lambda entry: entry["history"][0], id="in an event"),
        ],
    )
    def test_fields_of_a_newer_version_survive_a_change(
        self, ledger: Ledger, where: Callable[[Any], Any]
    ) -> None:
        run_whole_way(ledger, ONE)
        content = json.loads(read_object(ledger))
        content["schema_version"] = 2
        where(content)["rating"] = {"stars": 5, "by": ["me"]}
        write_object(ledger, json.dumps(content).encode())
        ledger.append_event(ONE, "noted", by=task_instance("run"))

        after = json.loads(read_object(ledger))

        assert after["history"].pop()["event"] == "noted"
        assert after == content


class TestUnusableStore:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(ENTRY, id="half an entry"),
            pytest.param(b"\xff\xfe\x00", id="no text"),
            pytest.param(b"null", id="null"),
            pytest.param(b'{"stems": []}', id="another object"),
            pytest.param(ENTRY + b'"refunded"}', id="an unknown state"),
            pytest.param(ENTRY + b'"claimed", "attempts": []}', id="no attempts"),
        ],
    )
    def test_unreadable_entry_is_an_error_that_names_it_and_never_a_new_claim(
        self, ledger: Ledger, body: bytes
    ) -> None:
        write_object(ledger, body)

        with pytest.raises(LedgerError) as e:
            ledger.claim(ONE, intent("run"))
        assert ledger.uri_of(ONE) in str(e.value)
        with pytest.raises(LedgerError):
            ledger.record_submitted(ONE, "attempt-run", "T1")
        assert read_object(ledger) == body

    @pytest.mark.parametrize(
        "changes, elsewhere, cause",
        [
            pytest.param({}, "no-such-ledger", "there is no bucket", id="no bucket"),
            pytest.param({"aws_secret_access_key": "w"}, None, "SignatureDoesNotMatch", id="wrong secret"),
            pytest.param({"aws_access_key_id": "nobody"}, None, "InvalidAccessKeyId", id="unknown key"),
            pytest.param({"endpoint_url": "http://127.0.0.1:9"}, None, "Could not connect", id="no server"),
        ],
    )
    def test_unusable_store_raises_an_error_within_seconds(
        self,
        seaweed: SeaweedServer,
        ledger: Ledger,
        changes: dict[str, str],
        elsewhere: str | None,
        cause: str,
    ) -> None:
        login = {"aws_access_key_id": seaweed.access_key, "aws_secret_access_key": seaweed.secret_key}
        arguments = {"endpoint_url": seaweed.endpoint_url, "region_name": "us-east-1", **login, **changes}
        client = boto3.client("s3", config=IMPATIENT, **arguments)
        location = ledger.store.location
        store = S3LedgerStore(ObjectStore(client), Location(elsewhere or location.bucket, location.prefix))
        ledger.claim(TWO, intent("run"))
        begun = time.monotonic()

        with pytest.raises(LedgerError, match=cause) as e:
            Ledger(store).claim(ONE, intent("run"))
        assert store.uri_of(ONE) in str(e.value)

        if not elsewhere:  # SeaweedFS creates a bucket on its first write
            with pytest.raises(LedgerError, match=cause):
                store.write(ONE, ledger.read(TWO), None)
        assert time.monotonic() - begun < 5
        assert ledger.read(ONE) is None


class TestStoreWithoutConditions:
    def refuse(self, request: Any, **_: Any) -> AWSResponse | None:
        """Answer like a store that does not implement the header."""
        if not CONDITIONS & set(request.headers):
            return None
        response = AWSResponse(request.url, 501, {}, None)
        response._content = b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
        return response

    @pytest.mark.parametrize(
        "ignored",
        [CONDITIONS, {"If-Match"}, {"If-None-Match"}, None],
        ids=["ignores both", "ignores If-Match", "ignores If-None-Match", "refuses the headers"],
    )
    def test_store_without_conditions_warns_once_and_works_for_one_run_at_a_time(
        self, seaweed: SeaweedServer, ledger: Ledger, caplog: Caplog, ignored: set[str] | None
    ) -> None:
        client, conditions = seaweed.client(), []

        def strip(params: Any, **_: Any) -> None:
            if params["url_path"].endswith(".json"):
                conditions.append(CONDITIONS & set(params["headers"]))
            for name in ignored or ():
                params["headers"].pop(name, None)

        client.meta.events.register("before-call.s3.PutObject", strip)
        if ignored is None:
            client.meta.events.register("before-send.s3.PutObject", self.refuse)
        caplog.set_level(logging.WARNING)
        plain = Ledger(S3LedgerStore(ObjectStore(client), ledger.store.location))
        expected = [Submit, InDoubt, Attach, Attach, Landed]

        assert [type(decision) for decision in run_whole_way(plain, ONE)] == expected

        (message,) = warnings_of(caplog)
        assert "ignores conditional writes" in message
        assert "only one run at a time" in message
        assert [type(decision) for decision in run_whole_way(plain, TWO)] == expected
        assert len(warnings_of(caplog)) == 1
        assert conditions
        assert not any(conditions), "entries are written without any condition"
        assert ledger.read(TWO).state is EntryState.LANDED
