"""An object storage that is busy or breaks off: nothing is paid twice, and all that was paid lands."""

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
    """The way to the object storage, which can be broken."""
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
def test_passing_trouble_is_lived_through_in_the_same_try(bench, storage, status, body, method):
    storage.answer_next(status, body, method=method, times=2)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1


def test_a_store_that_stays_busy_fails_the_try_and_the_retry_pays_nothing(bench, storage):
    bench.separate(destination=None, ledger=f"{bench.destination}/_vocalsep/ledger")
    storage.answer_next("503 Slow Down", SLOW_DOWN, method="PUT", times=500)
    with pytest.raises(VocalSepError, match="SlowDown"):
        bench.separate()

    storage.heal()
    bench.separate()
    assert landed(bench)
    assert bench.submits == 1


@pytest.mark.parametrize("after", [5_000, 100_000])
def test_an_upload_whose_connection_breaks_in_the_middle_is_sent_again(bench, storage, after):
    storage.reset_next(after=after, direction="to_server", times=3)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1


def test_a_store_that_breaks_off_at_once_fails_the_try_before_anything_is_paid(bench, storage):
    storage.reset_next(direction="to_server", times=500)
    bench.refusal(StorageError)
    assert bench.submits == 0

    storage.heal()
    bench.separate()
    assert landed(bench)
    assert bench.submits == 1


@pytest.mark.parametrize("nth", range(8))
def test_an_answer_that_is_lost_is_found_out_about(bench, storage, nth):
    """The write was done and its answer lost. With ``If-Match``, sending it again conflicts with itself."""
    storage.lose_answer(nth)
    bench.separate()

    assert landed(bench)
    assert bench.submits == 1
    assert [line["event"] for line in bench.history()][:2] == ["claimed", "submitted"]
    assert all(line["count"] == 1 for line in bench.history())
