"""Faults of the object storage: nothing is paid twice, and all that is paid lands."""

from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.storage.errors import StorageError
from tests.bed.fault_proxy import FaultProxy

SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BROKEN = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@pytest.fixture
def storage(bench, connect, seaweed):
    """A proxy before the object storage, which can break requests."""
    with FaultProxy("s3", [int(seaweed.endpoint_url.rpartition(":")[2])]) as proxy:
        extra = {**seaweed.connection["extra"], "endpoint_url": f"http://{LOOPBACK}:{proxy.port}"}
        connect(aws={"extra": extra})
        yield proxy


def landed(bench):
    return bench.objects() == {
        f"daisy-bell/separate_vocal/{name}" for name in ("vocals.mp3", "instrumental.mp3", "manifest.json")
    }


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
@pytest.mark.parametrize(
    "status, body",
    [("503 Slow Down", SLOW_DOWN), ("500 Internal Server Error", BROKEN)],
    ids=["SlowDown", "InternalError"],
)
def test_transient_errors_do_not_fail_the_try(bench, storage, status, body, method):
    storage.answer_next(status, body, method=method, times=2)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1


def test_busy_store_fails_the_try_and_the_retry_pays_nothing(bench, storage):
    bench.separate(destination=None, ledger=f"{bench.destination}/_vocalsep/ledger")
    storage.answer_next("503 Slow Down", SLOW_DOWN, method="PUT", times=500)
    with pytest.raises(VocalSepError, match="SlowDown"):
        bench.separate()

    storage.heal()
    bench.separate()
    assert landed(bench)
    assert bench.submits == 1


@pytest.mark.parametrize("after", [5_000, 100_000])
def test_broken_upload_is_sent_again(bench, storage, after):
    storage.reset_next(after=after, direction="to_server", times=3)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1


def test_unreachable_store_fails_the_try_before_anything_is_paid(bench, storage):
    storage.reset_next(direction="to_server", times=500)
    bench.refusal(StorageError)
    assert bench.submits == 0

    storage.heal()
    bench.separate()
    assert landed(bench)
    assert bench.submits == 1


@pytest.mark.parametrize("nth", range(8))
def test_write_whose_answer_is_lost_counts_once(bench, storage, nth):
    """With ``If-Match``, the write that boto3 sends again conflicts with the first one."""
    storage.lose_answer(nth)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1
    assert [line["event"] for line in bench.history()][:2] == ["claimed", "submitted"]
    assert all(line["count"] == 1 for line in bench.history())
