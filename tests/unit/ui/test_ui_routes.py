from __future__ import annotations

import re
import threading

import pytest
from fastapi.routing import APIRoute

from airflow_provider_vocalsep.runs.report import RowState, TrackRow
from airflow_provider_vocalsep.storage.location import run_key
from airflow_provider_vocalsep.ui import app as page
from airflow_provider_vocalsep.ui.destinations import Destination
from tests.support.sample_bucket import BUCKET, DESTINATION, LOCATION, OPEN, stem_bytes

ROUTES = [(method, route.path) for route in page.app.routes for method in sorted(route.methods)]  # type: ignore[attr-defined]

#: Names that break pages: markup, another direction, no letters at all, very long.
HOSTILE = {
    "<script>alert(1)</script>": "<img src=x onerror=alert(1)>",
    "rtl": "أغنية \u202egnos",
    "🎵/🎤": "🎵🎤",
    "long": "x" * 300,
    "quote'\"": "a&b=c#d?e%2F",
}

SECRET = OPEN.model_copy(update={"dag_id": "secret_dag"})

NAMES = {"dag_id": "open", "run_id": "manual__1", "task_id": "separate", "map_index": -1}


def task_of(**changes):
    return OPEN.model_copy(update=changes)


def example(path):
    return path.replace("{name}", "main.js")


@pytest.fixture
def secret(sample):
    """A run of a DAG that only the user `insider` may read."""
    sample.report([sample.land("hidden", SECRET, title="Hidden song")], SECRET)
    return {**NAMES, "dag_id": "secret_dag", "track": "hidden"}


@pytest.fixture
def song(sample):
    sample.report([sample.land("song", OPEN, title="A song")], OPEN)
    return {**NAMES, "track": "song"}


class TestPermissions:
    def test_every_route_is_tested_here(self):
        assert all(isinstance(route, APIRoute) for route in page.app.routes)
        assert {path for _, path in ROUTES} == {
            *("/", "/run", "/tracks", "/track", "/static/{name}"),
            *("/api/runs", "/api/run", "/api/tracks", "/api/track", "/api/audio"),
        }

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_request_without_a_user_is_refused(self, ask, secret, method, path):
        answer = ask(example(path), None, method=method, **secret, stem="vocals")

        if "api" in path or "static" in path:
            assert answer.status_code == 401
        else:
            assert answer.status_code == 307
            assert "/auth/login?next=" in answer.headers["location"]
        assert "Hidden song" not in answer.text

    @pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_forged_token_is_refused(self, ask, secret, method, path, token):
        answer = ask(
            example(path), None, method=method, headers={"cookie": f"_token={token}"}, **secret, stem="x"
        )

        assert answer.status_code in (401, 403, 307)

    @pytest.mark.parametrize("path", ["/api/run", "/api/tracks", "/api/track", "/api/audio"])
    def test_user_without_permission_to_read_the_dag_is_refused(self, ask, secret, path):
        assert ask(path, "insider", **secret, stem="vocals").status_code == 200

        answer = ask(path, **secret, stem="vocals")

        assert answer.status_code == 403
        assert "Hidden" not in answer.text

    @pytest.mark.parametrize("path", ["/api/run", "/api/tracks", "/api/track", "/api/audio"])
    def test_missing_dag_is_refused_like_a_forbidden_one(self, ask, path):
        names = {**NAMES, "dag_id": "secret_and_imaginary", "track": "x"}
        assert ask(path, **names, stem="vocals").status_code == 403

    def test_runs_that_the_user_may_not_read_are_not_listed(self, ask, secret, song):
        everything = ask("/api/runs", "insider").json()
        found = ask("/api/runs").json()

        assert {run["dag_id"] for run in everything["runs"]} == {"open", "secret_dag"}
        assert [run["dag_id"] for run in found["runs"]] == ["open"]
        assert found["total"] == 1

    def test_tracks_that_the_user_may_not_read_are_not_found(self, ask, secret, song):
        found = ask("/api/tracks", q="song").json()

        assert ask("/api/tracks", "insider", q="song").json()["total"] == 2
        assert [row["track"] for row in found["tracks"]] == ["song"]
        assert (found["total"], found["states"]) == (1, {"landed": 1})
        assert ask("/api/tracks", q="hidden").json()["tracks"] == []

    def test_events_of_another_dag_for_the_same_audio_have_no_name(self, ask, sample, song):
        row = sample.land("shared", OPEN, title="Shared")
        sample.land_separated("shared", SECRET, title="Shared")
        sample.report([row], OPEN)

        answer = ask("/api/track", **{**song, "track": "shared"})

        assert "secret_dag" not in answer.text
        history = answer.json()["entry"]["history"]
        assert [event["event"] for event in history].count("landed") == 2
        assert history[-1].get("hidden")
        assert "secret_dag" in ask("/api/track", "insider", **{**song, "track": "shared"}).text

    def test_problems_of_buckets_are_only_for_users_who_may_see_a_run(
        self, ask, secret, monkeypatch, service
    ):
        ask("/api/runs")
        service.index.put_status(DESTINATION, problem="It does not answer.")
        monkeypatch.setattr(service, "_start", lambda destination, folder: None)

        assert ask("/api/runs").json()["troubles"] == []
        assert ask("/api/runs", "insider").json()["troubles"] == ["It does not answer."]


class TestRuns:
    def test_counts_are_those_of_the_reports_and_the_plan(self, ask, sample):
        for n in (0, 1):
            task = task_of(map_index=n)
            rows = [
                sample.land(f"{n}-landed", task),
                TrackRow(track=f"{n}-waits", state=RowState.WAITING, submits=1),
                TrackRow(track=f"{n}-failed", state=RowState.FAILED, message="no", submits=2, credits=30),
            ]
            sample.report(rows, task, concluded=bool(n))
            sample.plan([sample.track(f"{n}-{i}") for i in range(4)], task, first=n * 4 + 1)

        (run,) = ask("/api/runs").json()["runs"]

        counts = {"tracks": 8, "landed": 2, "waiting": 2, "failed": 2, "left": 0}
        assert {name: run[name] for name in counts} == counts
        assert (run["submits"], run["credits"], run["stems"], run["concluded"]) == (8, 60, 4, False)

    def test_run_with_only_a_plan_is_listed(self, ask, sample, service):
        task = task_of(run_id="manual__2026-11-23T12:00:00+00:00")
        sample.plan([sample.track(str(n)) for n in range(200)], task)
        names = {run_key(task.dag_id, task.run_id): (task.dag_id, task.run_id)}
        service.found = [Destination(LOCATION, None, names=names)]

        (run,) = ask("/api/runs").json()["runs"]

        assert (run["run_id"], run["tracks"], run["landed"]) == (task.run_id, 200, 0)

    def test_running_run_without_any_file_is_listed(self, ask, service, monkeypatch):
        known = {("open", "new"): {"state": "running", "start": None, "end": None, "user": "me"}}
        monkeypatch.setattr(
            page, "read_dag_runs", lambda runs: {run: known[run] for run in runs if run in known}
        )
        names = {"open/new": ("open", "new"), "open/old": ("open", "old"), "secret/x": ("secret", "x")}
        service.found = [Destination(LOCATION, None, names=names)]

        assert [run["run_id"] for run in ask("/api/runs").json()["runs"]] == ["new"]

    def test_unchanged_answer_is_not_sent_again(self, ask, song):
        first = ask("/api/runs")

        assert ask("/api/runs", headers={"if-none-match": first.headers["etag"]}).status_code == 304

    def test_changed_and_deleted_reports_are_noticed(self, ask, sample):
        key = sample.report([TrackRow(track="one", state=RowState.WAITING)], OPEN, concluded=False)
        assert ask("/api/run", **NAMES).json()["run"]["waiting"] == 1

        sample.report([TrackRow(track="one", state=RowState.LANDED)], OPEN)
        assert ask("/api/run", **NAMES).json()["run"]["landed"] == 1

        sample.delete(key)
        assert ask("/api/run", **NAMES).json()["run"] is None

    def test_run_id_whose_plus_became_a_space_is_found(self, ask, sample):
        task = task_of(run_id="manual__2026-11-23T12:00:00+00:00")
        sample.report([TrackRow(track="one")], task)

        answer = ask("/api/run", dag_id="open", run_id=task.run_id.replace("+", " ")).json()

        assert answer["run_id"] == task.run_id
        assert answer["run"]["tracks"] == 1

    def test_answer_has_the_number_of_destinations(self, ask, service):
        service.found = []

        answer = ask("/api/runs").json()

        assert (answer["runs"], answer["destinations"]) == ([], 0)

    def test_slow_bucket_is_shown_as_being_read(self, ask, song, service, monkeypatch):
        monkeypatch.setattr("airflow_provider_vocalsep.ui.run_index._FIRST_WAIT", 0)
        is_over = threading.Event()
        monkeypatch.setattr(service, "store", lambda _: is_over.wait(10) and service.object_store)

        first = ask("/api/runs").json()
        assert (first["runs"], first["reading"]) == ([], True)

        is_over.set()
        for thread in service._threads.values():
            thread.join()
        later = ask("/api/runs").json()
        assert (len(later["runs"]), later["reading"]) == (1, False)

    def test_missing_bucket_is_a_problem_and_its_runs_stay(self, ask, song, s3, sample):
        ask("/api/runs")
        for key in sample.keys():
            sample.delete(key)
        s3.delete_bucket(Bucket=BUCKET)

        answer = ask("/api/runs").json()

        (problem,) = answer["troubles"]
        assert problem.startswith(
            f"Could not list {DESTINATION}/_vocalsep/runs/: there is no bucket 'stems'."
        )
        assert len(answer["runs"]) == 1


class TestHostileNames:
    @pytest.fixture
    def hostile(self, sample):
        sample.report([sample.land(key, OPEN, title=title) for key, title in HOSTILE.items()], OPEN)

    @pytest.mark.parametrize("key", HOSTILE)
    def test_track_with_any_name_is_found_and_played(self, ask, hostile, key):
        (row,) = [row for row in ask("/api/tracks", **NAMES).json()["tracks"] if row["track"] == key]
        assert row["title"] == HOSTILE[key]
        found = ask("/api/tracks", q=HOSTILE[key].upper() if key == "long" else HOSTILE[key]).json()["tracks"]
        assert [row["track"] for row in found] == [key]

        details = ask("/api/track", **NAMES, track=key).json()
        assert details["manifest"]["track"]["title"] == HOSTILE[key]
        assert details["entry"]["state"] == "landed"
        assert ask("/api/audio", **NAMES, track=key, stem="vocals").content == stem_bytes(key)

    @pytest.mark.parametrize("text", ["%", "_", "'", '"', "\\", "' OR 1=1 --", "\x00", "*"])
    def test_search_is_for_the_literal_text(self, ask, hostile, text):
        found = ask("/api/tracks", q=text)

        assert found.status_code == 200
        for row in found.json()["tracks"]:
            assert text.strip() in f"{row['track']}{row['title']}"

    def test_download_has_a_valid_file_name(self, ask, hostile):
        answer = ask("/api/audio", **NAMES, track="🎵/🎤", stem="vocals", download=True)

        assert answer.headers["content-disposition"] == (
            "attachment; filename*=UTF-8''%F0%9F%8E%B5%F0%9F%8E%A4%20-%20vocals.mp3"
        )


class TestPage:
    @pytest.mark.parametrize("path", ["/", "/run", "/tracks", "/track"])
    def test_content_security_policy_is_strict(self, ask, path):
        answer = ask(path)

        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|style=|https?://", answer.text)

    def test_static_files_of_the_page_exist_and_are_sent_once(self, ask):
        parts = re.findall(r'(?:href|src)="static/([^"]+)"', ask("/").text)
        assert len(parts) > 8
        for name in parts:
            answer = ask(f"/static/{name}")
            assert answer.status_code == 200
            etag = answer.headers["etag"]
            assert ask(f"/static/{name}", headers={"if-none-match": etag}).status_code == 304

    def test_scripts_import_only_preloaded_scripts_and_never_write_markup(self, ask):
        preloaded = set(re.findall(r'"static/([^"]+\.js)"', ask("/").text))
        for name in preloaded:
            text = ask(f"/static/{name}").text
            assert set(re.findall(r'from "\./([^"]+)"', text)) <= preloaded
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)

    @pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e/app.py", "__init__.py", "%2e%2e"])
    def test_other_files_are_not_served(self, ask, name):
        answer = ask(f"/static/{name}")

        assert answer.status_code == 404
        assert "import" not in answer.text
