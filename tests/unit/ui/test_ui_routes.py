from __future__ import annotations

import re
import threading

import pytest
from fastapi.routing import APIRoute
from ui_world import AUDIO, BUCKET, HOSTILE, asker

from airflow_provider_vocalsep.runs.report import RowState, TrackRow
from airflow_provider_vocalsep.ui import app as page
from airflow_provider_vocalsep.ui.destinations import Source

ROUTES = [(method, route.path) for route in page.app.routes for method in sorted(route.methods)]  # type: ignore[attr-defined]

NAMES = {"dag_id": "open", "run_id": "manual__1", "task_id": "separate", "map_index": -1}


def example(path):
    return path.replace("{name}", "main.js")


@pytest.fixture
def secret(bucket):
    """A run of a DAG that hardly anybody may read."""
    who = asker("secret_dag")
    bucket.report(who, [bucket.land(who, "hidden", "Hidden song")])
    return {**NAMES, "dag_id": "secret_dag", "track": "hidden"}


@pytest.fixture
def song(bucket):
    who = asker()
    bucket.report(who, [bucket.land(who, "song", "A song")])
    return {**NAMES, "track": "song"}


class TestWhoMaySee:
    def test_every_route_is_of_fastapi_and_known_to_these_tests(self):
        assert all(isinstance(route, APIRoute) for route in page.app.routes)
        assert {path for _, path in ROUTES} == {
            *("/", "/run", "/tracks", "/track", "/static/{name}"),
            *("/api/runs", "/api/run", "/api/tracks", "/api/track", "/api/audio"),
        }

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_nobody_sees_nothing(self, ask, secret, method, path):
        answer = ask(example(path), None, method=method, **secret, stem="vocals")

        if "api" in path or "static" in path:
            assert answer.status_code == 401
        else:
            assert answer.status_code == 307
            assert "/auth/login?next=" in answer.headers["location"]
        assert "Hidden song" not in answer.text

    @pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_a_forged_token_is_refused(self, ask, secret, method, path, token):
        answer = ask(
            example(path), None, method=method, headers={"cookie": f"_token={token}"}, **secret, stem="x"
        )
        assert answer.status_code in (401, 403, 307)

    @pytest.mark.parametrize("path", ["/api/run", "/api/tracks", "/api/track", "/api/audio"])
    def test_who_may_not_read_the_dag_is_refused(self, ask, secret, path):
        assert ask(path, "insider", **secret, stem="vocals").status_code == 200

        answer = ask(path, **secret, stem="vocals")
        assert answer.status_code == 403
        assert "Hidden" not in answer.text

    @pytest.mark.parametrize("path", ["/api/run", "/api/tracks", "/api/track", "/api/audio"])
    def test_a_dag_that_is_not_there_is_refused_just_so(self, ask, path):
        names = {**NAMES, "dag_id": "secret_and_imaginary", "track": "x"}
        assert ask(path, **names, stem="vocals").status_code == 403

    def test_lists_leave_out_what_may_not_be_read(self, ask, secret, song):
        everything = ask("/api/runs", "insider").json()
        assert {run["dag_id"] for run in everything["runs"]} == {"open", "secret_dag"}
        found = ask("/api/runs").json()
        assert [run["dag_id"] for run in found["runs"]] == ["open"]
        assert found["total"] == 1

        assert ask("/api/tracks", "insider", q="song").json()["total"] == 2
        found = ask("/api/tracks", q="song").json()
        assert [row["track"] for row in found["tracks"]] == ["song"]
        assert (found["total"], found["states"]) == (1, {"landed": 1})
        assert ask("/api/tracks", q="hidden").json()["tracks"] == []

    def test_what_another_dag_did_to_the_same_audio_is_told_without_its_name(self, ask, bucket, song):
        hidden = asker("secret_dag")
        row = bucket.land(asker(), "shared", "Shared")
        bucket.land(hidden, "shared", "Shared")  # the same audio, the same ledger entry
        bucket.report(asker(), [row])

        told = ask("/api/track", **{**song, "track": "shared"})
        assert "secret_dag" not in told.text
        history = told.json()["entry"]["history"]
        assert [event["event"] for event in history].count("landed") == 2
        assert history[-1].get("hidden")
        assert "secret_dag" in ask("/api/track", "insider", **{**song, "track": "shared"}).text

    def test_troubles_of_buckets_are_not_for_those_who_see_no_run(
        self, ask, secret, client, monkeypatch, desk
    ):
        ask("/api/runs")
        desk.index.note(desk.found[0].destination.uri, trouble="it is away")
        monkeypatch.setattr(desk, "_start", lambda source, folder: None)

        assert ask("/api/runs").json()["troubles"] == []
        assert ask("/api/runs", "insider").json()["troubles"] == ["s3://stems/music: it is away."]


class TestRuns:
    def test_counts_are_those_of_the_reports_and_the_plan(self, ask, bucket):
        for n in (0, 1):
            who = asker(map_index=n)
            rows = [
                bucket.land(who, f"{n}-landed"),
                TrackRow(track=f"{n}-waits", state=RowState.WAITING, submits=1),
            ]
            rows += [TrackRow(track=f"{n}-failed", state=RowState.FAILED, message="no", submits=2)]
            bucket.report(who, rows, concluded=bool(n), credits=30)
            bucket.plan(who, n * 4 + 1, n * 4 + 4)

        (run,) = ask("/api/runs").json()["runs"]
        assert {name: run[name] for name in ("tracks", "landed", "waiting", "failed", "left")} == {
            "tracks": 8, "landed": 2, "waiting": 2, "failed": 2, "left": 0,
        }  # fmt: skip
        assert (run["submits"], run["credits"], run["stems"], run["concluded"]) == (8, 60, 4, False)

    def test_a_run_is_found_by_its_plan_before_it_has_a_report(self, ask, bucket, desk):
        who = asker(run_id="manual__2026-11-23T12:00:00+00:00")
        bucket.plan(who, 1, 200)
        names = {f"{who.dag_id}/{bucket.report_key(who).split('/')[-3]}": (who.dag_id, who.run_id)}
        desk.found = [Source(bucket.destination, None, names=names)]

        (run,) = ask("/api/runs").json()["runs"]
        assert (run["run_id"], run["tracks"], run["landed"]) == (who.run_id, 200, 0)

    def test_a_run_that_has_just_begun_is_listed(self, ask, bucket, desk, monkeypatch):
        known = {("open", "new"): {"state": "running", "start": None, "end": None, "user": "me"}}
        monkeypatch.setattr(
            page, "runs_in_airflow", lambda runs: {run: known[run] for run in runs if run in known}
        )
        names = {"open/new": ("open", "new"), "open/old": ("open", "old"), "secret/x": ("secret", "x")}
        desk.found = [Source(bucket.destination, None, names=names)]

        assert [run["run_id"] for run in ask("/api/runs").json()["runs"]] == ["new"]

    def test_what_has_not_changed_is_not_sent_again(self, ask, song):
        first = ask("/api/runs")
        assert ask("/api/runs", headers={"if-none-match": first.headers["etag"]}).status_code == 304

    def test_a_report_that_changes_and_one_that_goes_are_noticed(self, ask, bucket, client):
        who = asker()
        bucket.report(who, [TrackRow(track="one", state=RowState.WAITING)], concluded=False)
        assert ask("/api/run", **NAMES).json()["run"]["waiting"] == 1
        bucket.report(who, [TrackRow(track="one", state=RowState.LANDED)])
        assert ask("/api/run", **NAMES).json()["run"]["landed"] == 1
        client.delete_object(Bucket=BUCKET, Key=bucket.report_key(who))
        assert ask("/api/run", **NAMES).json()["run"] is None

    def test_a_plus_that_became_a_space_is_understood(self, ask, bucket):
        who = asker(run_id="manual__2026-11-23T12:00:00+00:00")
        bucket.report(who, [TrackRow(track="one")])
        answer = ask("/api/run", dag_id="open", run_id=who.run_id.replace("+", " ")).json()
        assert answer["run_id"] == who.run_id
        assert answer["run"]["tracks"] == 1

    def test_no_destination_is_said(self, ask, desk):
        desk.found = []
        answer = ask("/api/runs").json()
        assert (answer["runs"], answer["destinations"]) == ([], 0)

    def test_a_bucket_that_takes_its_time_is_not_said_to_be_empty(self, ask, song, desk, monkeypatch):
        monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index._FIRST_WAIT", 0)
        over, listing = threading.Event(), desk.client
        monkeypatch.setattr(desk, "client", lambda source: over.wait(10) and listing(source))
        first = ask("/api/runs").json()
        assert (first["runs"], first["reading"]) == ([], True)
        over.set()
        for thread in desk._threads.values():
            thread.join()
        later = ask("/api/runs").json()
        assert (len(later["runs"]), later["reading"]) == (1, False)

    def test_a_bucket_that_is_gone_is_said_in_words(self, ask, song, client):
        ask("/api/runs")
        for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
            client.delete_object(Bucket=BUCKET, Key=item["Key"])
        client.delete_bucket(Bucket=BUCKET)

        answer = ask("/api/runs").json()
        assert answer["troubles"] == ["s3://stems/music: there is no such bucket."]
        assert len(answer["runs"]) == 1, "what was read stays"


class TestHostileNames:
    @pytest.fixture
    def hostile(self, bucket):
        who = asker()
        bucket.report(who, [bucket.land(who, key, title) for key, title in HOSTILE.items()])

    @pytest.mark.parametrize("key", HOSTILE)
    def test_a_track_is_found_and_played_by_any_name(self, ask, hostile, key):
        (row,) = [row for row in ask("/api/tracks", **NAMES).json()["tracks"] if row["track"] == key]
        assert row["title"] == HOSTILE[key]
        found = ask("/api/tracks", q=HOSTILE[key].upper() if key == "long" else HOSTILE[key]).json()["tracks"]
        assert [row["track"] for row in found] == [key]

        told = ask("/api/track", **NAMES, track=key).json()
        assert told["manifest"]["track"]["title"] == HOSTILE[key]
        assert told["entry"]["state"] == "landed"
        assert ask("/api/audio", **NAMES, track=key, stem="vocals").content == AUDIO

    @pytest.mark.parametrize("text", ["%", "_", "'", '"', "\\", "' OR 1=1 --", "\x00", "*"])
    def test_a_search_is_for_the_text_itself(self, ask, hostile, text):
        found = ask("/api/tracks", q=text)
        assert found.status_code == 200
        for row in found.json()["tracks"]:
            assert text.strip() in f"{row['track']}{row['title']}"

    def test_a_download_has_a_name_that_a_disk_takes(self, ask, hostile):
        answer = ask("/api/audio", **NAMES, track="🎵/🎤", stem="vocals", download=True)
        assert answer.headers["content-disposition"] == (
            "attachment; filename*=UTF-8''%F0%9F%8E%B5%F0%9F%8E%A4%20-%20vocals.mp3"
        )


class TestPage:
    @pytest.mark.parametrize("path", ["/", "/run", "/tracks", "/track"])
    def test_is_strict_about_what_it_loads(self, ask, path):
        answer = ask(path)
        policy = answer.headers["content-security-policy"]

        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|style=|https?://", answer.text)

    def test_loads_parts_that_are_there_and_answers_304(self, ask):
        parts = re.findall(r'(?:href|src)="static/([^"]+)"', ask("/").text)
        assert len(parts) > 8
        for name in parts:
            answer = ask(f"/static/{name}")
            assert answer.status_code == 200
            etag = answer.headers["etag"]
            assert ask(f"/static/{name}", headers={"if-none-match": etag}).status_code == 304

    def test_scripts_import_only_what_is_loaded_ahead_and_never_write_markup(self, ask):
        ahead = set(re.findall(r'"static/([^"]+\.js)"', ask("/").text))
        for name in ahead:
            text = ask(f"/static/{name}").text
            assert set(re.findall(r'from "\./([^"]+)"', text)) <= ahead
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)

    @pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e/app.py", "__init__.py", "%2e%2e"])
    def test_serves_no_other_file(self, ask, name):
        answer = ask(f"/static/{name}")
        assert answer.status_code == 404
        assert "import" not in answer.text
