"""Wrong input fails with the track's name and the remedy, before anything is paid."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_vocalsep.operators.catalogue import load_tracks
from airflow_provider_vocalsep.sandbox.server import running_sandbox
from airflow_provider_vocalsep.storage.location import parse_s3_uri


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"separation_type": "vocals"}, ["'daisy-bell'", "'vocals'", "separate_vocal, split_stem"]),
        ({"separation_type": "split_stem_advanced"}, ["'daisy-bell'", "stem_name"]),
        ({"track": {}}, ["{}", "key"]),
        ({"track": {"key": "x"}}, ["'x'", "task_id and audio_id"]),
        ({"track": "x"}, ["'x'", "mapping"]),
        ({"destination": "stems/x"}, ["'daisy-bell'", "'stems/x'", "s3://bucket/prefix"]),
        ({"destination": "s3://no-such-bucket/x"}, ["'daisy-bell'", "'no-such-bucket'", "Create it"]),
        ({"upload_args": {"Nonsense": 1}}, ["'daisy-bell'", "'Nonsense'", "StorageClass"]),
        ({"if_landed": "maybe"}, ["'daisy-bell'", "'maybe'", "'replace'"]),
        ({"on_lost_submit": "maybe"}, ["'daisy-bell'", "'maybe'", "'resubmit'"]),
        ({"track": {"key": "x", "audio_url": "ftp://host/song.mp3"}}, ["'x'", "ftp", "https://"]),
    ],
)
def test_wrong_argument_fails_at_once(bench, arguments, says):
    message = bench.refusal(AirflowFailException, **arguments)

    assert [word for word in says if word not in message] == []
    assert bench.submits == 0


class TestConnection:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"password": "wrong"}, ["401", "API key", "password"]),
            ({"password": ""}, ["vocalsep_default", "no API key", "password"]),
            ({"extra": {"dialect": "suno"}}, ["vocalsep_default", "dialect", "sunoapi", "kie"]),
        ],
    )
    def test_wrong_connection_field_fails_at_once(self, bench, connect, changes, says):
        connect(**changes)
        message = bench.refusal(AirflowFailException)

        assert [word for word in ["'daisy-bell'", *says] if word not in message] == []
        assert bench.submits == 0

    def test_connection_without_permission_for_the_bucket_fails_before_the_submit(self, bench, connect):
        connect(aws={"password": "not-the-secret"})
        message = bench.refusal(AirflowFailException)

        assert "'daisy-bell'" in message
        assert "permission" in message or "may not" in message or "credentials" in message
        assert bench.submits == 0

    @pytest.mark.parametrize("dialect", ["sunoapi", "kie"])
    def test_empty_account_fails_and_a_clear_after_the_top_up_separates(self, bench, connect, dialect):
        with running_sandbox(dialect=dialect, credits=5, task_seconds=0) as poor:
            row = poor.catalogue()[0]
            track = {name: row[name] for name in ("key", "task_id", "audio_id")}
            connect(host=poor.url, password=poor.api_key, extra={"dialect": dialect})
            message = bench.refusal(AirflowFailException, track=track)
            assert poor.totals()["submits"] == 0

        assert "'daisy-bell'" in message
        assert "out of credits" in message
        assert "top it up" in message
        connect()
        bench.separate()
        assert bench.submits == 1


class TestOwnFile:
    def test_file_above_the_limit_is_refused_before_it_is_paid(self, bench):
        bucket, key = parse_s3_uri(f"{bench.destination}/in/big.wav")
        bench.s3.put_object(Bucket=bucket, Key=key, Body=bytes(21 * 2**20))
        message = bench.refusal(
            AirflowFailException, track={"key": "own", "audio_url": f"s3://{bucket}/{key}"}
        )

        assert "'own'" in message
        assert "21.0 MB" in message
        assert "20 MB" in message
        assert bench.submits == 0

    def test_missing_file_is_refused_before_it_is_paid(self, bench):
        url = f"{bench.destination}/in/none.wav"
        message = bench.refusal(AirflowFailException, track={"key": "own", "audio_url": url})

        assert f"Track 'own': {url} does not exist" in message
        assert bench.submits == 0


class TestLoadTracks:
    ROWS = "key,task_id,audio_id\none,t1,a1\ntwo,,\none,t1,a1\nthree,t3,a3\n"

    @pytest.fixture
    def catalogue(self, bench):
        bucket, key = parse_s3_uri(f"{bench.destination}/catalogue.csv")
        bench.s3.put_object(Bucket=bucket, Key=key, Body=self.ROWS.encode())
        return f"s3://{bucket}/{key}"

    def test_row_without_ids_is_refused_by_line_and_track(self, catalogue):
        with pytest.raises(AirflowFailException, match="line 3.*'two'"):
            load_tracks(catalogue)

    def test_skip_leaves_bad_and_repeated_rows_out(self, catalogue, caplog):
        tracks = load_tracks(catalogue, bad_rows="skip")

        assert [track["key"] for track in tracks] == ["one", "three"]
        assert "line 3: Track 'two' cannot be submitted" in caplog.text
        assert "line 4: track 'one' is on line 2 already" in caplog.text

    def test_missing_catalogue_is_refused_by_its_address(self, bench):
        with pytest.raises(AirflowFailException, match=f"{bench.destination}/none.csv could not be read"):
            load_tracks(f"{bench.destination}/none.csv")
