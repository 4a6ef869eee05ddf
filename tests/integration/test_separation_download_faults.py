"""Faulty downloads: whole stems land, the others are named, and a retry downloads only those."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.landing.errors import LandingError

FOLDER = "daisy-bell/separate_vocal"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("html", "HTML page"),
        ("short", "broke off"),
        ("empty", "file is empty"),
        ("expired", "has expired"),
        ("redirect", "127.0.0.1"),
    ],
)
def test_broken_stem_is_named_and_only_it_is_downloaded_by_the_retry(bench, faulty, sandbox, kind, says):
    faulty("download", kind, stem="vocals")
    message = bench.refusal(LandingError)
    assert "'daisy-bell'" in message
    assert f"vocals did not land at {bench.destination}" in message
    assert says in message
    assert bench.objects() == {f"{FOLDER}/instrumental.mp3"}, "no manifest before everything is there"

    sandbox.clear_faults()
    downloads = sandbox.totals()["downloads"]
    bench.separate()

    assert sandbox.totals()["downloads"] <= downloads + 2
    assert bench.objects() == {
        f"{FOLDER}/{name}" for name in ("vocals.mp3", "instrumental.mp3", "manifest.json")
    }
    assert bench.submits == 1


@pytest.mark.parametrize("kind", ["drop", "no_range"])
def test_broken_download_is_continued_in_the_same_try(bench, faulty, kind):
    faulty("download", "drop", after=20_000, times=2)
    if kind == "no_range":
        faulty("download", "no_range")
    bench.separate()

    assert len(bench.objects()) == 3


def test_expired_link_is_renewed_in_the_same_try(bench, faulty):
    faulty("download", "expired", times=1)
    bench.separate()

    assert len(bench.objects()) == 3


def test_private_address_is_refused_unless_the_connection_allows_it(bench, connect):
    connect(extra={"allow_private_hosts": False})
    message = bench.refusal(AirflowFailException)
    assert "Refused to download from 127.0.0.1" in message
    assert "allow_private_hosts" in message

    connect()
    bench.separate()
    assert bench.submits == 1
