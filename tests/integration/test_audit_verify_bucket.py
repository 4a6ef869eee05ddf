"""Stems that `vocalsep verify` reports in a real bucket are landed again by the next run, without paying."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from airflow_provider_vocalsep.cli.main import main
from airflow_provider_vocalsep.storage.location import parse_s3_uri


@pytest.fixture
def verify(bench, seaweed, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def verify():
        command = ["verify", bench.destination, "--endpoint-url", seaweed.endpoint_url, "--format", "json"]
        answer = CliRunner().invoke(main, command)
        problems = json.loads(answer.stdout)["problems"]
        return answer.exit_code, [(problem["kind"], problem["track"], problem["uri"]) for problem in problems]

    return verify


def flip_a_byte(s3, bucket, key):
    body = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    body[len(body) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(body), ContentType="audio/mpeg")


def delete(s3, bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize(("damage", "kind"), [(flip_a_byte, "different"), (delete, "missing")])
def test_damaged_stem_is_reported_and_only_it_is_landed_again(bench, verify, damage, kind):
    tracks = [bench.track(0), bench.track(1)]
    before = [bench.separate(track=track) for track in tracks]
    assert verify() == (0, [])
    uri = before[1]["stems"]["vocals"]["uri"]
    damage(bench.s3, *parse_s3_uri(uri))
    assert verify() == (1, [(kind, tracks[1]["key"], uri)])

    downloads = bench.sandbox.totals()["downloads"]
    again = [bench.separate(track=track, run_id="tomorrow") for track in tracks]

    assert bench.sandbox.totals()["downloads"] == downloads + 1
    assert bench.submits == 2, "nothing is paid again"
    assert [summary["stems"] for summary in again] == [summary["stems"] for summary in before]
    assert verify() == (0, [])
