from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.landing.manifest import LandedStem, Manifest
from airflow_provider_vocalsep.ledger import Intent, claims, transitions
from airflow_provider_vocalsep.ledger.entry import Identity, Landing, Outcome, TaskInstanceRef
from tests.bed.invariants import check_invariants

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
ASKER = TaskInstanceRef(dag_id="d", run_id="r", task_id="t", try_number=1)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


class CatalogueFixture:
    """A bucket, its ledger and the vendor's books, filled by each test track by track."""

    def __init__(self, client):
        self.client = client
        self.planned = []
        self.tasks = []

    def check(self):
        return check_invariants(self.client, "stems", "here", set(self.planned), {"tasks": self.tasks})

    def charge(self, source, vendor_task_id, status="SUCCESS"):
        self.tasks.append({"source": source, "vendor_task_id": vendor_task_id, "status": status})

    def plan(self):
        source = f"task-{len(self.planned)}/audio-{len(self.planned)}"
        self.planned.append(source)
        return source

    def claim(self, source):
        identity = Identity("account", source, SeparationType.SEPARATE_VOCAL)
        intent = Intent(attempt_id=f"of {source}", asked_by=ASKER, track_key=source)
        entry, _ = claims.claim(None, identity, intent, at(0))
        return entry

    def write(self, entry):
        self.put(f"here/_vocalsep/ledger/00/{entry.source.replace('/', '-')}.json", entry.to_json())

    def put(self, key, body):
        self.client.put_object(Bucket="stems", Key=key, Body=body)

    def land(self, source, vendor_task_id="v", body=b"true", events=("submitted", "landed")):
        entry = self.claim(source)
        attempt = entry.current
        if "submitted" in events:
            transitions.record_submitted(entry, attempt.attempt_id, vendor_task_id, at(1))
        task_id, audio_id = source.split("/")
        folder = f"here/{task_id}"
        stem = LandedStem(
            name="vocals",
            uri=f"s3://stems/{folder}/vocals.mp3",
            bytes=4,
            sha256=hashlib.sha256(b"true").hexdigest(),
            content_type="audio/mpeg",
        )
        manifest = Manifest(
            track={"key": source, "title": None, "task_id": task_id, "audio_id": audio_id, "audio_url": None},
            separation_type=SeparationType.SEPARATE_VOCAL,
            dialect="sunoapi",
            vendor_task_id=vendor_task_id,
            landed_at=at(2),
            stems=[stem],
            absent=[],
            uri=f"s3://stems/{folder}/manifest.json",
        )
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
def catalogue(s3):
    """A catalogue without tracks, in an empty bucket."""
    return CatalogueFixture(s3)


class TestCheckInvariants:
    def test_catalogue_without_tracks_holds(self, catalogue):
        report = catalogue.check()

        assert report.holds
        assert (report.planned, report.landed, report.charges) == (0, 0, 0)

    def test_tracks_are_counted_by_state_and_unknown_ones_as_lost(self, catalogue):
        landed, claimed, failed, unknown = (catalogue.plan() for _ in range(4))
        catalogue.land(landed)
        catalogue.charge(landed, "v")
        catalogue.write(catalogue.claim(claimed))
        entry = catalogue.claim(failed)
        outcome = Outcome(at=at(1), verdict=Verdict.FATAL, message="no")
        transitions.record_failed(entry, entry.current.attempt_id, outcome, at(1))
        catalogue.write(entry)

        report = catalogue.check()

        assert (report.landed, report.claimed, report.failed, report.lost) == (1, 1, 1, 1)
        assert not report.holds
        assert report.history_gaps == ()
        catalogue.planned.remove(unknown)
        assert catalogue.check().holds

    def test_unplanned_tracks_are_ignored(self, catalogue):
        catalogue.land("task-x/audio-x")
        catalogue.charge("task-x/audio-x", "v")
        catalogue.charge("task-x/audio-x", "w")

        assert catalogue.check().charges == 0

    @pytest.mark.parametrize(
        "statuses, double",
        [
            (["SUCCESS"], 0),
            (["SUCCESS", "PENDING"], 1),
            (["GENERATE_AUDIO_FAILED", "SUCCESS"], 0),
            (["SUCCESS"] * 3, 2),
        ],
    )
    def test_second_charge_is_double_unless_the_first_vendor_task_failed(self, catalogue, statuses, double):
        source = catalogue.plan()
        catalogue.land(source)
        for number, status in enumerate(statuses):
            catalogue.charge(source, "v" if number == 0 else f"v{number}", status)

        report = catalogue.check()

        assert (report.charges, report.double_charges) == (len(statuses), double)

    @pytest.mark.parametrize("body", [b"fals", b"", None], ids=["changed", "empty", "missing"])
    def test_stem_that_differs_from_its_manifest_is_corrupted(self, catalogue, body):
        catalogue.land(catalogue.plan(), body=body)

        report = catalogue.check()

        assert report.corrupted == 1
        assert not report.holds


class TestHistoryGaps:
    def find_gaps(self, catalogue):
        report = catalogue.check()
        assert report.holds is not bool(report.history_gaps)
        return " ".join(report.history_gaps)

    def test_charge_without_a_ledger_entry_is_a_gap(self, catalogue):
        catalogue.charge(catalogue.plan(), "v")

        assert "not in the ledger" in " ".join(catalogue.check().history_gaps)

    def test_charge_missing_in_the_entry_is_a_gap(self, catalogue):
        source = catalogue.plan()
        catalogue.land(source)
        catalogue.charge(source, "other", "GENERATE_AUDIO_FAILED")

        assert "vendor task other, which is not in the ledger" in self.find_gaps(catalogue)

    def test_charge_of_a_submit_without_recorded_answer_is_no_gap(self, catalogue):
        source = catalogue.plan()
        catalogue.write(catalogue.claim(source))
        catalogue.charge(source, "v", "PENDING")

        assert self.find_gaps(catalogue) == ""

    def test_landing_from_an_unknown_vendor_task_is_a_gap(self, catalogue):
        catalogue.land(catalogue.plan(), events=())

        assert "landed from vendor task v" in self.find_gaps(catalogue)

    def test_history_out_of_order_is_a_gap(self, catalogue):
        source = catalogue.plan()
        entry = catalogue.claim(source)
        transitions.append_event(entry, "attached", at(-5), by=ASKER)
        catalogue.write(entry)

        assert "not in order" in self.find_gaps(catalogue)

    def test_callback_may_be_recorded_with_an_earlier_time(self, catalogue):
        source = catalogue.plan()
        entry = catalogue.claim(source)
        transitions.append_event(entry, "called_back", at(-5), by=ASKER)
        catalogue.write(entry)

        assert self.find_gaps(catalogue) == ""

    def test_attempt_without_a_claim_is_a_gap(self, catalogue):
        source = catalogue.plan()
        entry = catalogue.claim(source)
        entry.history.clear()
        catalogue.write(entry)

        assert "has no claim" in self.find_gaps(catalogue)

    def test_vendor_task_without_submit_or_adoption_is_a_gap(self, catalogue):
        source = catalogue.plan()
        entry = catalogue.claim(source)
        entry.current.vendor_task_id = "v"
        catalogue.write(entry)

        assert "no submit or adoption" in self.find_gaps(catalogue)
