"""Metrics, as they leave by UDP through Airflow's own Stats."""

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
from airflow_provider_vocalsep.operators._runtime import track_leg
from airflow_provider_vocalsep.runs.report import TrackRow
from airflow_provider_vocalsep.triggers.lost_submit import LostSubmitTrigger

ONE = Identity("label", "t/a", SeparationType.SPLIT_STEM)
ME = TaskInstanceRef(dag_id="d", run_id="r1", task_id="g.separate", map_index=3, try_number=1)
START = datetime(2026, 11, 23, tzinfo=timezone.utc)
TAGS = {"dag_id": "d", "task_id": "g.separate", "separation_type": "split_stem", "account": "label"}
FILES = (
    File(name="vocals", uri="s3://x/v.mp3", bytes=900, sha256="ab"),
    File(name="drums", uri="s3://x/d.mp3", bytes=100, sha256="cd"),
)


class LedgerBench:
    """One separation in a ledger, with a clock that only the test moves."""

    def __init__(self):
        self.now = START
        self.ledger = Ledger(MemoryLedgerStore(), now=lambda: self.now, on_event=metrics.count_event)

    def claim(self, number=1, asked_by=ME):
        self.ledger.claim(ONE, Intent(attempt_id=f"a{number}", asked_by=asked_by, track_key="one"))

    def submit(self):
        self.claim()
        self.ledger.record_submitted(ONE, "a1", "T1")

    def separate(self, after=0.0):
        self.now += timedelta(seconds=after)
        self.ledger.record_separated(ONE, "T1", ME)

    def land(self, after=0.0):
        self.now += timedelta(seconds=after)
        landing = Landing(at=self.now, vendor_task_id="T1", stems=2, bytes=1000)
        self.ledger.record_landed(ONE, "s3://x/manifest.json", landing, ME, FILES)

    def fail(self, verdict, *, final=False):
        self.ledger.record_task_failed(ONE, "T1", Outcome(at=self.now, verdict=verdict, final=final))


@pytest.fixture
def bench():
    return LedgerBench()


def wait_for_metrics(statsd, count=1):
    wait_until(lambda: len(statsd.ours()) >= count, timeout=5, what="metrics", every=0.01)


class TestCountEvent:
    def test_track_is_counted_from_submit_to_landing(self, bench, statsd):
        bench.submit()
        bench.separate(after=90)
        bench.land(after=5)
        bench.land(after=3600)

        wait_for_metrics(statsd, 11)
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
        durations = {name: value for name, _, value in statsd.ours() if name.endswith("_duration")}
        assert durations == {"separation_duration": 90_000, "landing_duration": 5_000}

    def test_refused_submits_lost_submits_and_refunds_have_their_own_counters(self, bench, statsd):
        bench.claim()
        bench.ledger.record_refused(ONE, "a1", Outcome(at=START, verdict=Verdict.WAIT, code=430))
        bench.ledger.renew(ONE, "a1")
        bench.ledger.record_submit_lost(ONE, "a1", "no answer")
        bench.ledger.record_submitted(ONE, "a1", "T1", event="adopted")
        bench.fail(Verdict.REFUNDED)
        bench.fail(Verdict.REFUNDED, final=True)
        bench.claim(2)
        refused = Outcome(at=START, verdict=Verdict.FATAL)
        bench.ledger.record_refused(ONE, "a2", refused)

        wait_for_metrics(statsd, 9)
        assert statsd.sums() == {
            "sent_again": 1,
            "submit_lost": 1,
            "submitted": 1,
            "adopted": 1,
            "credits": 50,
            "separation_failed": 1,
            "credits_refunded": 50,
            "submit_refused": 2,
        }

    def test_another_run_that_attaches_or_skips_counts_no_submit(self, bench, statsd):
        bench.submit()
        other_run = ME.model_copy(update={"run_id": "r2"})
        for _ in range(2):
            bench.ledger.claim(ONE, Intent(attempt_id="b", asked_by=other_run, track_key="one"))
        for _ in range(3):
            bench.ledger.append_event(ONE, "skipped", by=other_run)

        wait_for_metrics(statsd, 7)
        assert statsd.sums() == {"submitted": 1, "credits": 50, "attached": 2, "skipped": 3}

    def test_error_of_a_metric_does_not_fail_the_track(self, bench, monkeypatch, caplog):
        def raise_error(*args, **kwargs):
            raise OSError("no route")

        monkeypatch.setattr(metrics.Stats, "incr", raise_error)

        bench.submit()

        assert bench.ledger.read(ONE).current.vendor_task_id == "T1"
        assert "Nothing else is affected" in caplog.text


class TestCountUnlanded:
    def run(self, error, *, try_number, max_tries=1):
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=try_number, max_tries=max_tries
        )
        operator = SimpleNamespace(separation_type="separate_vocal")
        job = SimpleNamespace(runtime=SimpleNamespace(target=None), row=TrackRow(track="one"))
        leg = track_leg(operator, {"ti": ti}, lambda: job, track_key="one", check_destination=False)
        with pytest.raises(type(error)), leg:
            raise error

    def test_failed_track_is_counted_once_after_the_last_try(self, statsd):
        self.run(RuntimeError("passing"), try_number=1)
        self.run(RuntimeError("still"), try_number=2)

        wait_for_metrics(statsd)
        assert statsd.ours() == [
            ("failed", {"dag_id": "d", "task_id": "t", "separation_type": "separate_vocal"}, 1)
        ]

    def test_permanent_failure_is_counted_at_once(self, statsd):
        self.run(AirflowFailException("for good"), try_number=1)

        wait_for_metrics(statsd)
        assert statsd.sums() == {"failed": 1}

    def test_deferred_track_is_not_counted(self, statsd):
        self.run(TaskDeferred(trigger=LostSubmitTrigger("a", 0), method_name="x"), try_number=2)
        self.run(AirflowFailException("for good"), try_number=2)

        wait_for_metrics(statsd)
        assert statsd.sums() == {"failed": 1}


class TestReceiver:
    @pytest.mark.asyncio
    async def test_deliveries_are_counted_through_the_stats_of_the_api_server(self, statsd, monkeypatch):
        claims = SimpleNamespace(dag_id="d", task_id="t", inbox=("d", "r", "t", -1, "a"))

        async def verify(request):
            return SimpleNamespace(claims=claims)

        monkeypatch.setattr(receiver, "_deliver", lambda delivery: (Effect.DUPLICATE, False))
        transport = httpx.ASGITransport(receiver.app)

        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            refused = await client.post("/callback/no-token", json={})
            monkeypatch.setattr(receiver, "_verify", verify)
            accepted = await client.post("/callback/token", json={})

        assert (refused.status_code, accepted.status_code) == (401, 200)
        wait_for_metrics(statsd, 2)
        assert statsd.ours() == [
            ("callback.rejected", {}, 1),
            ("callback.duplicate", {"dag_id": "d", "task_id": "t"}, 1),
        ]


class TestDocumentation:
    def test_documented_metrics_are_those_that_are_sent(self):
        page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
        table = page.partition("## Lineage")[0]
        documented = set()
        for row in re.findall(r"^\| (`vocalsep\..*?) \| (?:counter|timer)", table, flags=re.MULTILINE):
            first, *more = re.findall(r"`(?:vocalsep)?\.([a-z_.]+)`", row)
            documented |= {first, *(f"callback.{name}" for name in more)}

        sent = {name for names in metrics.COUNTED_EVENTS.values() for name in names}
        sent |= {*metrics.OTHER_COUNTERS, *metrics.TIMERS, "callback.rejected", "callback.unavailable"}
        sent |= {f"callback.{effect.value}" for effect in Effect}

        assert documented == sent
