"""The page in Airflow's UI, in a real browser: progress of a run, search, playback, and permissions."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import requests
from page_browser import (
    CHROMIUM,
    Visitor,
    drawn_height,
    is_wider_than_its_window,
    running_chromium,
    too_faint,
)
from playwright.sync_api import expect

from airflow_provider_vocalsep.callbacks import receiver
from airflow_provider_vocalsep.callbacks.token import MOUNT_PATH
from airflow_provider_vocalsep.demo.processes import wait_until
from airflow_provider_vocalsep.demo.report import catalogue_file
from airflow_provider_vocalsep.plugin import VocalSepPlugin
from airflow_provider_vocalsep.ui import app as page_app
from airflow_provider_vocalsep.ui.mount import PAGE_PATH

DAG_ID = "separate_large_catalogue"

#: Folder for screenshots of the page, see `make screenshots`.
PICTURES = os.environ.get("VOCALSEP_SCREENSHOTS")

ROUTES = sorted((route.path, method) for route in page_app.app.routes for method in route.methods)


@pytest.fixture(scope="module")
def visitor(airflow):
    """A user who is logged in."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with running_chromium() as browser:
        visitor = Visitor(browser, airflow)
        visitor.log_in()
        yield visitor
        assert visitor.errors == []


@pytest.fixture(scope="module")
def songs(sandbox):
    return sandbox.catalogue()


@pytest.fixture(scope="module")
def run(airflow, sandbox, songs, s3, seaweed):
    """Trigger a run over all songs, one of which fails at the vendor; return its id at once."""
    prefix = f"page-{uuid.uuid4().hex[:8]}"
    bucket = seaweed.buckets[0]
    s3.put_object(Bucket=bucket, Key=f"{prefix}/catalogue.csv", Body=catalogue_file(songs))
    fault = {"track": songs[-1]["audio_id"], "code": 400, "message": "The vendor found no voice in it."}
    sandbox.set_fault("task", "fail", **fault)
    airflow.wait_for_dags([DAG_ID])
    conf = {
        "catalogue": f"s3://{bucket}/{prefix}/catalogue.csv",
        "destination": f"s3://{bucket}/{prefix}/music",
        "chunk_size": 2,
        # Long enough for the page to find the new destination and to show progress.
        "poll_interval": 25,
        "max_failed": 1,
    }
    yield airflow.api.trigger(DAG_ID, conf)
    sandbox.clear_faults()


@pytest.fixture(scope="module")
def neighbours(airflow, sandbox, songs, watched, seaweed):
    """Other runs, for screenshots: one whose DAG has several tasks, and one that does not end."""
    if not PICTURES:
        return
    bucket, prefix = seaweed.buckets[0], f"page-{uuid.uuid4().hex[:8]}"
    seaweed.client().put_object(Bucket=bucket, Key=f"{prefix}.csv", Body=catalogue_file(songs))
    sandbox.set_fault("task", "stuck", track=songs[-2]["audio_id"])
    song = {name: songs[1][name] for name in ("key", "title", "task_id", "audio_id")}
    split = {
        **song,
        "separation_type": "split_stem",
        "destination": f"s3://{bucket}/{prefix}",
        "poll_interval": 1,
    }
    whole = {
        "catalogue": f"s3://{bucket}/{prefix}.csv",
        "destination": f"s3://{bucket}/{prefix}",
        "poll_interval": 1,
    }
    airflow.wait_for_dags(["separate_track", "separate_catalogue"])
    airflow.api.wait_for_run("separate_track", airflow.api.trigger("separate_track", split))
    unfinished = airflow.api.trigger("separate_catalogue", whole)
    wait_until(
        lambda: (
            [
                ti["state"] for ti in airflow.api.task_instances("separate_catalogue", unfinished, "separate")
            ].count("success")
            >= len(songs) - 2
        ),
        what="all but the stuck song",
        timeout=120,
    )


@pytest.fixture(scope="module")
def watched(visitor, request):
    """Open the page, then run: labels of its progress bar, whether it was not reloaded, announcement."""
    frame = visitor.open_from_menu()
    born = frame.evaluate("performance.timeOrigin")
    run = request.getfixturevalue("run")
    row = frame.get_by_role("row").filter(has_text=run)
    said = []
    deadline = time.monotonic() + 120
    while not row.count() or row.locator(".state").inner_text() not in ("success", "failed"):
        if row.count() and (label := row.get_by_role("img").get_attribute("aria-label")) not in said:
            said.append(label)
        assert time.monotonic() < deadline, said
        visitor.page.wait_for_timeout(100)
    expect(row.locator(".state")).to_have_text("success")
    expect(row.get_by_role("img")).not_to_have_attribute("aria-label", re.compile("waiting"))
    said.append(row.get_by_role("img").get_attribute("aria-label"))
    expect(frame.locator("#said")).to_contain_text("has ended")
    return said, born == frame.evaluate("performance.timeOrigin"), frame.locator("#said").inner_text()


@pytest.fixture(scope="module")
def names(watched, run, songs, airflow):
    """The query of the first song of the run."""
    return {
        "dag_id": DAG_ID,
        "run_id": run,
        "task_id": "separate",
        "map_index": 0,
        "track": songs[0]["key"],
        "stem": "vocals",
    }


class TestBrowser:
    def test_run_is_shown_until_its_end_without_a_reload(self, watched, songs, run):
        said, not_reloaded, announced = watched

        assert said[-1] == "4 tracks: 3 landed, 1 failed"
        assert len(set(said)) >= 3, "the page showed progress"
        assert not_reloaded
        assert f"Run {run} of {DAG_ID} has ended: 3 of 4 tracks landed, 1 failed." in announced

    def test_track_is_found_and_played_and_its_log_is_one_click_away(self, visitor, watched, songs):
        page, frame, song = visitor.page, visitor.open_from_menu(), songs[0]
        frame.get_by_role("searchbox", name="Search the tracks of all runs").fill(song["title"][2:].upper())
        frame.get_by_role("searchbox", name="Search the tracks of all runs").press("Enter")
        frame.get_by_role("link", name=song["title"]).first.click()
        expect(frame.get_by_role("heading", level=1)).to_contain_text(song["title"])
        expect(frame.get_by_role("heading", level=1)).to_contain_text("Landed")

        frame.get_by_role("button", name="Play vocals").click()
        expect(frame.get_by_role("button", name="Pause vocals")).to_be_visible()
        audio = frame.locator("[data-stem=vocals] audio")
        first = audio.evaluate("audio => audio.currentTime")
        page.wait_for_timeout(1500)
        assert audio.evaluate("audio => audio.currentTime") > first + 0.7
        assert audio.evaluate("audio => audio.duration") == pytest.approx(song["duration"], abs=0.5)
        frame.get_by_role("button", name="Play instrumental").click()
        expect(frame.get_by_role("button", name="Play vocals")).to_be_visible()
        frame.get_by_role("button", name="Pause instrumental").click()

        for stem in ("vocals", "instrumental"):
            expect(frame.locator(f"[data-stem={stem}] .wave")).to_have_attribute(
                "data-drawn", "", timeout=15_000
            )
            assert drawn_height(frame, stem) > 0.3
        history = frame.get_by_role("region", name="What happened").get_by_role("listitem")
        expect(history.filter(has_text="Submitted")).to_have_count(1)
        expect(history.filter(has_text="Stems landed")).to_have_count(1)

        frame.locator(".facts").get_by_role("link", name="separate[0]").click()
        expect(page).to_have_url(re.compile(rf"/dags/{DAG_ID}/runs/.+/tasks/separate/mapped/0\?try_number=1"))
        expect(
            page.get_by_text(re.compile("VocalSeparationBatchOperator|stems of track|landed")).first
        ).to_be_visible(timeout=15_000)

    def test_failed_track_is_found_by_its_state_with_the_vendors_message(self, visitor, names, songs):
        page = visitor.open(f"run?{urlencode(names)}")
        page.get_by_role("button", name=re.compile("^Failed")).click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name=songs[-1]["title"]).click()
        expect(page.locator(".problems")).to_contain_text("The vendor found no voice in it.")
        expect(page.get_by_text("It failed; the message above says why.")).to_be_visible()

    def test_dag_run_has_a_tab_with_its_tracks(self, visitor, watched, run, songs):
        visitor.page.goto(f"{visitor.airflow.url}/dags/{DAG_ID}/runs/{quote(run)}")
        visitor.page.get_by_role("link", name="Vocal separation").click()
        frame = visitor.frame()

        expect(frame.locator("tbody tr")).to_have_count(len(songs))
        expect(frame.get_by_role("banner")).to_be_hidden()
        for song in songs:
            expect(frame.get_by_role("link", name=song["title"])).to_be_visible()

    def test_page_works_with_the_keyboard_only(self, visitor, names, songs):
        page = visitor.open(f"run?{urlencode(names)}")
        expect(page.locator("tbody tr")).to_have_count(len(songs))

        def tab_to(wanted):
            for _ in range(40):
                page.keyboard.press("Tab")
                if wanted.evaluate("element => element === document.activeElement"):
                    return
            raise AssertionError(f"{wanted} is not reached")

        page.keyboard.press("/")
        page.keyboard.type(songs[0]["key"])
        expect(page.locator("tbody tr")).to_have_count(1)
        tab_to(page.get_by_role("rowheader").get_by_role("link"))
        assert (
            page.locator(":focus-visible").evaluate("element => getComputedStyle(element).outlineStyle")
            != "none"
        )
        page.keyboard.press("Enter")
        tab_to(page.get_by_role("button", name="Play vocals"))
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Pause vocals")).to_be_focused()
        tab_to(page.get_by_role("slider", name="Position in vocals"))
        before = page.locator("[data-stem=vocals] audio").evaluate("audio => audio.currentTime")
        for _ in range(50):
            page.keyboard.press("ArrowRight")
        assert page.locator("[data-stem=vocals] audio").evaluate("audio => audio.currentTime") > before + 4
        expect(page.get_by_role("slider", name="Position in vocals")).to_have_attribute(
            "aria-valuetext", re.compile(r"\d+ s of 16 s")
        )

    def test_every_element_has_a_role_and_a_name_for_screen_readers(self, visitor, names):
        page = visitor.open(f"run?{urlencode(names)}")
        table = page.get_by_role("table", name="Tracks")
        expect(table.get_by_role("columnheader")).to_have_count(6)
        expect(table.get_by_role("rowheader")).to_have_count(4)
        expect(page.get_by_role("img", name="4 tracks: 3 landed, 1 failed")).to_be_visible()
        expect(page.get_by_role("navigation", name="Breadcrumb")).to_be_visible()
        expect(
            page.get_by_role("group", name="Filter by state").get_by_role("button", pressed=True)
        ).to_have_count(1)
        page = visitor.open(f"track?{urlencode(names)}")
        expect(page.get_by_role("article", name="Stem vocals")).to_be_visible()
        nameless = "button, a, input, audio[controls]"
        for element in page.locator(nameless).all():
            said = element.evaluate(
                "e => (e.ariaLabel ?? '') + e.textContent"
                " + [...(e.labels ?? [])].map((label) => label.textContent)"
            )
            assert said.strip(), element


class TestAppearance:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_page_follows_airflows_theme_and_is_readable(self, visitor, names, neighbours, tmp_path, theme):
        visitor.page.set_viewport_size({"width": 1280, "height": 680})
        visitor.page.emulate_media(color_scheme="light")
        visitor.page.goto(visitor.airflow.url)
        frame = visitor.open_from_menu()
        visitor.page.emulate_media(color_scheme=theme)
        expect(frame.locator("html")).to_have_attribute("data-theme", theme)
        for view, path in (
            ("runs", ""),
            ("run", f"run?{urlencode(names)}"),
            ("track", f"track?{urlencode(names)}"),
        ):
            frame.goto(f"{visitor.airflow.url}{PAGE_PATH}/{path}")
            frame = visitor.frame()
            if view == "track":
                expect(frame.locator(".wave[data-drawn]")).to_have_count(2, timeout=15_000)
                frame.get_by_role("slider", name="Position in vocals").fill("7")
            else:
                expect(frame.locator("tbody tr").first).to_be_visible()
            assert too_faint(frame) == {}
            assert not is_wider_than_its_window(frame)
            picture = Path(PICTURES or tmp_path) / f"page-{view}-{theme}.png"
            shown = {"x": 0, "y": 0, "width": 1280, "height": 400 if view == "runs" else 680}
            visitor.page.mouse.move(0, 0)
            visitor.page.screenshot(path=picture, clip=shown, animations="disabled")

    @pytest.mark.parametrize("width", [360, 700, 1000])
    def test_page_fits_windows_of_any_width(self, visitor, names, width):
        visitor.page.set_viewport_size({"width": width, "height": 800})
        try:
            for path in ("", f"run?{urlencode(names)}", f"track?{urlencode(names)}", "tracks?q=a"):
                assert not is_wider_than_its_window(visitor.open(path)), path
        finally:
            visitor.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.fixture(scope="module")
def ask(airflow):
    """Request a route of the page as a user; `None` sends no credentials."""
    tokens = {None: {}}

    def log_in(user):
        passwords = json.loads((airflow.home / "passwords.json").read_text())
        answer = requests.post(
            f"{airflow.url}/auth/token", json={"username": user, "password": passwords[user]}, timeout=30
        )
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def ask(method, path, user, **names):
        if user not in tokens:
            tokens[user] = log_in(user)
        url = f"{airflow.url}{PAGE_PATH}{path.replace('{name}', 'main.js')}"
        return requests.request(
            method, url, params=names, headers=tokens[user], allow_redirects=False, timeout=30
        )

    return ask


class TestPermissions:
    @pytest.mark.parametrize(("path", "method"), ROUTES)
    def test_user_without_permission_for_the_dag_sees_nothing_of_it(
        self, ask, airflow, outsider, names, songs, path, method
    ):
        assert ask(method, path, airflow.username, **names).status_code == 200

        answer = ask(method, path, outsider, **names)
        assert answer.status_code in (200, 403)
        if path.startswith("/api/"):
            assert answer.status_code == 403 or not answer.content or answer.json()[path[5:]] == []
        told = [
            DAG_ID,
            names["run_id"],
            *(song[name] for song in songs for name in ("key", "title", "task_id")),
        ]
        assert [name for name in told if name in answer.text] == []

    @pytest.mark.parametrize("path", ["/api/runs", "/api/tracks"])
    def test_lists_are_empty_for_a_user_without_permission(self, ask, airflow, outsider, names, path):
        key = path[5:]
        assert ask("GET", path, airflow.username).json()[key]
        answer = ask("GET", path, outsider).json()
        assert (answer[key], answer["total"]) == ([], 0)

    @pytest.mark.parametrize(("path", "method"), ROUTES)
    def test_request_without_credentials_is_refused(self, ask, names, path, method):
        answer = ask(method, path, None, **names)
        if path.startswith(("/api/", "/static/")):
            assert answer.status_code == 401
        else:
            assert answer.status_code == 307
            assert "/auth/login?next=" in answer.headers["location"]

    def test_only_the_callback_route_is_public(self, airflow):
        assert {app["url_prefix"] for app in VocalSepPlugin.fastapi_apps} == {PAGE_PATH, MOUNT_PATH}
        assert [(route.path, route.methods) for route in receiver.app.routes] == [
            ("/callback/{token}", {"POST"})
        ]
        for path in ("/", "/callback", "/docs", "/openapi.json"):
            assert requests.get(f"{airflow.url}{MOUNT_PATH}{path}", timeout=30).status_code in (404, 405), (
                path
            )
