"""The audit finds what it is there to find."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone

import boto3
import pytest
from moto import mock_aws

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest
from airflow_provider_vocalsep.ledger import Intent, claims, transitions
from airflow_provider_vocalsep.ledger.entry import Identity, Landing, Outcome, TaskInstanceRef
from tests.bed.invariants import audit

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
ASKER = TaskInstanceRef(dag_id="d", run_id="r", task_id="t", try_number=1)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


class World:
    """A bucket and books, with one track after the other in the state that a test wants."""

    def __init__(self, client):
        self.client = client
        self.planned = []
        self.tasks = []

    def audit(self):
        return audit(self.client, "stems", "here", set(self.planned), {"tasks": self.tasks})

    def charge(self, source, vendor_task_id, status="SUCCESS"):
        self.tasks.append({"source": source, "vendor_task_id": vendor_task_id, "status": status})

    def plan(self):
        source = f"task-{len(self.planned)}/audio-{len(self.planned)}"
        self.planned.append(source)
        return source

    def claimed(self, source):
        identity = Identity("account", source, SeparationType.SEPARATE_VOCAL)
        intent = Intent(attempt_id=f"of {source}", asked_by=ASKER, track_key=source)
        entry, _ = claims.claim(None, identity, intent, at(0))
        return entry

    def write(self, entry):
        self.put(f"here/_vocalsep/ledger/00/{entry.source.replace('/', '-')}.json", entry.to_json())

    def put(self, key, body):
        self.client.put_object(Bucket="stems", Key=key, Body=body)

    def landed(self, source, vendor_task_id="v", body=b"true", events=("submitted", "landed")):
        entry = self.claimed(source)
        attempt = entry.current
        if "submitted" in events:
            transitions.record_submitted(entry, attempt.attempt_id, vendor_task_id, at(1))
        task_id, audio_id = source.split("/")
        folder = f"here/{task_id}"
        stem = LandedStem(name="vocals", uri=f"s3://stems/{folder}/vocals.mp3", bytes=4,
                          sha256=hashlib.sha256(b"true").hexdigest(), content_type="audio/mpeg")  # fmt: skip
        manifest = Manifest(
            track={"key": source, "title": None, "task_id": task_id, "audio_id": audio_id, "audio_url": None},
            separation_type=SeparationType.SEPARATE_VOCAL, dialect="sunoapi", vendor_task_id=vendor_task_id,
            landed_at=at(2), stems=[stem], absent=[], uri=f"s3://stems/{folder}/manifest.json",
        )  # fmt: skip
        if body is not None:
            self.put(f"{folder}/vocals.mp3", body)
        self.put(f"{folder}/manifest.json", manifest.model_dump_json().encode())
        if "landed" in events:
            transitions.record_landed(
                entry,
                manifest.uri,
                Landing(at=at(3), vendor_task_id=vendor_task_id, stems=1, bytes=4),
                ASKER,
                at(3),
            )
        self.write(entry)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="stems")
        yield World(client)


def test_of_nothing(world):
    found = world.audit()
    assert found.sound
    assert (found.planned, found.landed, found.charges) == (0, 0, 0)


def test_of_tracks_in_every_state(world):
    landed, claimed, failed, unknown = (world.plan() for _ in range(4))
    world.landed(landed)
    world.charge(landed, "v")
    world.write(world.claimed(claimed))
    gave_up = world.claimed(failed)
    outcome = Outcome(at=at(1), verdict=Verdict.FATAL, message="no")
    transitions.record_failed(gave_up, gave_up.current.attempt_id, outcome, at(1))
    world.write(gave_up)
    found = world.audit()
    assert (found.landed, found.claimed, found.failed, found.lost) == (1, 1, 1, 1)
    assert not found.sound
    assert found.history_gaps == ()
    world.planned.remove(unknown)
    assert world.audit().sound


def test_other_tracks_of_the_books_and_the_bucket_do_not_count(world):
    world.landed("task-x/audio-x")
    world.charge("task-x/audio-x", "v")
    world.charge("task-x/audio-x", "w")
    assert world.audit().charges == 0


@pytest.mark.parametrize(
    "statuses, double",
    [(["SUCCESS"], 0), (["SUCCESS", "PENDING"], 1), (["GENERATE_AUDIO_FAILED", "SUCCESS"], 0), (["SUCCESS"] * 3, 2)],
)  # fmt: skip
def test_a_second_charge_counts_unless_the_vendor_failed_the_first(world, statuses, double):
    source = world.plan()
    world.landed(source)
    for number, status in enumerate(statuses):
        world.charge(source, "v" if number == 0 else f"v{number}", status)
    found = world.audit()
    assert (found.charges, found.double_charges) == (len(statuses), double)


@pytest.mark.parametrize("body", [b"fals", b"", None], ids=["changed", "empty", "gone"])
def test_a_stem_that_is_not_what_its_manifest_says(world, body):
    world.landed(world.plan(), body=body)
    found = world.audit()
    assert found.corrupted == 1
    assert not found.sound


class TestHistoryGaps:
    def gaps(self, world):
        found = world.audit()
        assert found.sound is not bool(found.history_gaps)
        return " ".join(found.history_gaps)

    def test_a_charge_without_an_entry(self, world):
        world.charge(world.plan(), "v")
        assert "not in the ledger" in " ".join(world.audit().history_gaps)

    def test_a_charge_that_the_entry_does_not_know(self, world):
        source = world.plan()
        world.landed(source)
        world.charge(source, "other", "GENERATE_AUDIO_FAILED")
        assert "vendor task other, which the ledger does not know" in self.gaps(world)

    def test_a_charge_whose_answer_is_on_its_way_is_none(self, world):
        source = world.plan()
        world.write(world.claimed(source))
        world.charge(source, "v", "PENDING")
        assert self.gaps(world) == ""

    def test_a_landing_from_an_unknown_vendor_task(self, world):
        world.landed(world.plan(), events=())
        assert "landed from vendor task v" in self.gaps(world)

    def test_a_history_out_of_order(self, world):
        source = world.plan()
        entry = world.claimed(source)
        transitions.append_event(entry, "attached", at(-5), by=ASKER)
        world.write(entry)
        assert "not in order" in self.gaps(world)

    def test_a_callback_is_told_when_its_task_next_runs_with_the_time_at_which_it_came(self, world):
        source = world.plan()
        entry = world.claimed(source)
        transitions.append_event(entry, "called_back", at(-5), by=ASKER)
        world.write(entry)
        assert self.gaps(world) == ""

    def test_an_attempt_that_was_never_claimed(self, world):
        source = world.plan()
        entry = world.claimed(source)
        entry.history.clear()
        world.write(entry)
        assert "was never claimed" in self.gaps(world)

    def test_a_vendor_task_out_of_nowhere(self, world):
        source = world.plan()
        entry = world.claimed(source)
        entry.current.vendor_task_id = "v"
        world.write(entry)
        assert "nobody says how" in self.gaps(world)
