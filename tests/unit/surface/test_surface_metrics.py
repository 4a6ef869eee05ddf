"""What is counted, as it leaves by UDP through Airflow's own Stats."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.callbacks import receiver
from airflow_provider_vocalsep.callbacks.resume import Effect
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.ledger import (
    File,
    Identity,
    Intent,
    Landing,
    Ledger,
    MemoryLedgerStore,
    Outcome,
    TaskInstanceRef,
)
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.operators.reporting import Reporting

ONE = Identity("label", "t/a", SeparationType.SPLIT_STEM)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="g.separate", map_index=3, try_number=1)
START = datetime(2026, 11, 23, tzinfo=timezone.utc)
TAGS = {"dag_id": "d", "task_id": "g.separate", "separation_type": "split_stem", "account": "label"}
FILES = (
    File(name="vocals", uri="s3://x/v.mp3", bytes=900, sha256="ab"),
    File(name="drums", uri="s3://x/d.mp3", bytes=100, sha256="cd"),
)


class Story:
    """One separation, and a clock that is put on by hand."""

    def __init__(self):
        self.now = START
        self.ledger = Ledger(MemoryLedgerStore(), now=lambda: self.now, on_event=metrics.count_event)

    def submit(self, number=1, asker=ME):
        self.ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asker, track_key="one"))
        self.ledger.record_submitted(ONE, f"a{number}", f"T{number}")

    def separated(self, after=0.0):
        self.now += timedelta(seconds=after)
        self.ledger.record_separated(ONE, "T1", ME)

    def landed(self, after=0.0):
        self.now += timedelta(seconds=after)
        landing = Landing(at=self.now, vendor_task_id="T1", stems=2, bytes=1000)
        self.ledger.record_landed(ONE, "s3://x/manifest.json", landing, ME, FILES)

    def failed(self, verdict, *, final=False):
        self.ledger.record_task_failed(ONE, "T1", Outcome(at=self.now, verdict=verdict, final=final))


@pytest.fixture
def story():
    return Story()


def test_a_track_is_counted_from_submit_to_landing(story, statsd):
    story.submit()
    story.separated(after=90)
    story.landed(after=5)
    story.landed(after=3600)

    wait_until(lambda: len(statsd.ours()) >= 11, timeout=5, what="metrics")
    assert statsd.sums() == {
        "submitted": 1,
        "credits": 50,
        "separated": 1,
        "separation_duration": 1,
        "landed": 2,
        "stems": 4,
        "bytes": 2000,
        "landing_duration": 1,
    }
    assert all(tags == TAGS for _, tags, _ in statsd.ours())
    timed = {name: value for name, _, value in statsd.ours() if name.endswith("_duration")}
    assert timed == {"separation_duration": 90_000, "landing_duration": 5_000}


def test_refused_and_lost_submits_and_given_back_credits_are_told_apart(story, statsd):
    story.ledger.claim(ONE, Intent(attempt_id="a1", asked_by=ME, track_key="one"))
    story.ledger.renew(ONE, "a1", code=430)
    story.ledger.record_submit_lost(ONE, "a1", "no answer")
    story.ledger.record_submitted(ONE, "a1", "T1", event="adopted")
    story.failed(Verdict.REFUNDED)
    story.failed(Verdict.REFUNDED, final=True)
    story.ledger.claim(ONE, Intent(attempt_id="a2", asked_by=ME, track_key="one"))
    story.ledger.record_failed(ONE, "a2", Outcome(at=START, verdict=Verdict.FATAL), event="submit_refused")

    wait_until(lambda: len(statsd.ours()) >= 8, timeout=5, what="metrics")
    assert statsd.sums() == {
        "sent_again": 1,
        "submit_lost": 1,
        "submitted": 1,
        "adopted": 1,
        "credits": 50,
        "separation_failed": 1,
        "credits_refunded": 50,
        "submit_refused": 1,
    }


def test_another_run_attaches_or_skips_and_pays_nothing(story, statsd):
    story.submit()
    other = ME.model_copy(update={"run_id": "r2"})
    for _ in range(2):
        story.ledger.claim(ONE, Intent(attempt_id="b", asked_by=other, track_key="one"))
    for _ in range(3):
        story.ledger.append_event(ONE, "skipped", by=other)

    wait_until(lambda: len(statsd.ours()) >= 7, timeout=5, what="metrics")
    assert statsd.sums() == {"submitted": 1, "credits": 50, "attached": 2, "skipped": 3}


class TestATrackThatFails:
    def run(self, error, *, try_number, max_tries=1):
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=try_number, max_tries=max_tries
        )
        with pytest.raises(type(error)), Reporting().leg({"ti": ti}, "separate_vocal"):
            raise error

    def test_is_counted_once_when_airflow_tries_no_more(self, statsd):
        self.run(RuntimeError("passing"), try_number=1)
        self.run(RuntimeError("still"), try_number=2)

        wait_until(statsd.ours, timeout=5, what="metrics")
        assert statsd.ours() == [
            ("failed", {"dag_id": "d", "task_id": "t", "separation_type": "separate_vocal"}, 1)
        ]

    def test_for_good_is_counted_at_once(self, statsd):
        self.run(AirflowFailException("for good"), try_number=1)

        wait_until(statsd.ours, timeout=5, what="metrics")
        assert statsd.sums() == {"failed": 1}

    def test_is_none_that_is_parked(self, statsd):
        from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger

        self.run(TaskDeferred(trigger=LostSubmitTrigger("a", 0), method_name="x"), try_number=2)
        self.run(AirflowFailException("for good"), try_number=2)

        wait_until(statsd.ours, timeout=5, what="metrics")
        assert statsd.sums() == {"failed": 1}


@pytest.mark.asyncio
async def test_the_receiver_counts_through_what_the_api_server_has_set_up(statsd, monkeypatch):
    claims = SimpleNamespace(dag_id="d", task_id="t", memory=("d", "r", "t", -1, "a"))

    async def believed(request):
        return SimpleNamespace(claims=claims)

    monkeypatch.setattr(receiver, "_with_patience", lambda delivery: (Effect.DUPLICATE, False))
    transport = httpx.ASGITransport(receiver.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        refused = await client.post("/callback/no-token", json={})
        monkeypatch.setattr(receiver, "_believed", believed)
        taken = await client.post("/callback/token", json={})

    assert (refused.status_code, taken.status_code) == (401, 200)
    wait_until(lambda: len(statsd.ours()) >= 2, timeout=5, what="metrics")
    assert statsd.ours() == [
        ("callback.rejected", {}, 1),
        ("callback.duplicate", {"dag_id": "d", "task_id": "t"}, 1),
    ]


def test_trouble_with_a_metric_costs_no_track(story, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(metrics.Stats, "incr", broken)
    story.submit()
    assert story.ledger.read(ONE).current.vendor_task_id == "T1"
    assert "which changes nothing else" in caplog.text


def test_the_documented_names_are_those_that_are_sent():
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    table = page.partition("## Lineage")[0]
    documented = set()
    for row in re.findall(r"^\| (`vocalsep\..*?) \| (?:counter|timer)", table, flags=re.MULTILINE):
        first, *more = re.findall(r"`(?:vocalsep)?\.([a-z_.]+)`", row)
        documented |= {first, *(f"callback.{name}" for name in more)}
    sent = {name for names in metrics.COUNTED_LINES.values() for name in names}
    sent |= {*metrics.OTHERS, *metrics.TIMERS, "callback.rejected", "callback.unavailable"}
    assert documented == sent | {f"callback.{effect.value}" for effect in Effect}
