"""
The page's routes. They only read.

Each requires a user of Airflow; those about a DAG require the permission to read it. A browser never sends
the address of an object: run report, manifest and ledger entry name it, and it is opened only below a
destination that Airflow knows.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.responses import RedirectResponse, Response

from airflow_provider_vocalsep.ui.access import Reader, ReaderDep  # noqa: TC001
from airflow_provider_vocalsep.ui.airflow_runs import read_dag_runs
from airflow_provider_vocalsep.ui.audio import stream_stem
from airflow_provider_vocalsep.ui.documents import (
    UnreadableError,
    read_entry,
    read_manifest,
    redact_entry,
    redact_manifest,
)
from airflow_provider_vocalsep.ui.headers import SafeHeaders
from airflow_provider_vocalsep.ui.run_index import RunIndexService, run_index_service
from airflow_provider_vocalsep.ui.search import NO_COUNTS

if TYPE_CHECKING:
    from airflow_provider_vocalsep.ui.destinations import Destination

STATIC = Path(__file__).with_name("static")

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: Rows of a page.
RUNS_SHOWN, TRACKS_SHOWN = 50, 100

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
app.add_middleware(SafeHeaders)

ServiceDep = Annotated[RunIndexService, Depends(run_index_service)]
Text = Annotated[str, Query(max_length=300)]
Name = Annotated[str, Query(max_length=1000)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


@app.exception_handler(401)
async def log_in(request: Request, error: Exception) -> Response:
    """Redirect a page to Airflow's login; answer a script with an error."""
    if request.url.path.endswith(("/", "/run", "/track", "/tracks")) and "/api/" not in request.url.path:
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), 307)
    return JSONResponse({"detail": "You are not logged in to Airflow."}, 401)


@app.exception_handler(UnreadableError)
async def report_unreadable(request: Request, error: UnreadableError) -> Response:
    """Answer why an object cannot be shown."""
    return JSONResponse({"detail": str(error)}, 502)


@app.get("/")
@app.get("/run")
@app.get("/tracks")
@app.get("/track")
def page(request: Request, reader: ReaderDep, service: ServiceDep) -> Response:
    """Serve the page; its script decides by the address what to show."""
    answer = _serve_static(request, "index.html")
    # The first refresh takes a while, so it starts while the browser loads the scripts.
    answer.background = BackgroundTask(service.refresh)
    return answer


@app.get("/static/{name}")
def static(request: Request, name: str, reader: ReaderDep) -> Response:
    """Serve a script, style sheet or icon."""
    return _serve_static(request, name)


@app.get("/api/runs")
def runs(
    request: Request, reader: ReaderDep, service: ServiceDep, q: Text = "", offset: Offset = 0
) -> Response:
    """List runs, the last changed first."""
    problems = service.refresh()
    dag_ids = reader.readable(service.search.dag_ids())
    rows, total = service.search.runs(dag_ids, text=q, limit=RUNS_SHOWN, offset=offset)
    known = read_dag_runs((row["dag_id"], row["run_id"]) for row in rows)
    shown = [{**row, "airflow": known.get((row["dag_id"], row["run_id"]))} for row in rows]
    started = [] if q or offset else _list_started(reader, service)
    return _answer(
        request,
        {
            "runs": started + shown,
            "total": total + len(started),
            "offset": offset,
            "page_size": RUNS_SHOWN,
            "destinations": len(service.destinations()),
            # Only a user who may see a run may see addresses of buckets.
            "troubles": problems if dag_ids or not service.search.dag_ids() else [],
            "reading": service.is_reading(),
            "unread": service.count_unread(),
        },
    )


def _list_started(reader: Reader, service: RunIndexService) -> list[dict[str, Any]]:
    """List runs that have started and not written anything yet."""
    names = {name for each in service.destinations().values() for name in each.names.values()}
    silent = [name for name in service.search.unknown(names) if reader.may_read(name[0])]
    known = read_dag_runs(silent)
    return [
        {**NO_COUNTS, "dag_id": name[0], "run_id": name[1], "airflow": known[name]}
        for name in sorted(silent, key=lambda name: known.get(name, {}).get("start") or "", reverse=True)
        if known.get(name, {}).get("state") in ("queued", "running")
    ]


@app.get("/api/run")
def run(request: Request, reader: ReaderDep, service: ServiceDep, dag_id: Name, run_id: Name) -> Response:
    """Count the tracks of a run."""
    reader.require(dag_id)
    problems = service.refresh(dag_id, run_id)
    counts = service.search.run(dag_id, run_id)
    dag_run = read_dag_runs([(dag_id, run_id)]).get((dag_id, run_id))
    if counts is None and dag_run is None and " " in run_id:
        # Airflow 3.1 does not encode the run id in the address of a tab, so a plus becomes a space.
        return run(request, reader, service, dag_id, run_id.replace(" ", "+"))
    return _answer(
        request,
        {
            "dag_id": dag_id,
            "run_id": run_id,
            "run": counts,
            "airflow": dag_run,
            "destinations": service.search.destinations_of(dag_id, run_id),
            "troubles": problems,
        },
    )


@app.get("/api/tracks")
def tracks(
    request: Request,
    reader: ReaderDep,
    service: ServiceDep,
    dag_id: Name = "",
    run_id: Name = "",
    q: Text = "",
    state: Annotated[str, Query(pattern="^(planned|waiting|landed|failed|left)?$")] = "",
    offset: Offset = 0,
) -> Response:
    """Search the tracks of a run, or of all runs."""
    if dag_id:
        reader.require(dag_id)
        dag_ids = {dag_id}
        service.refresh(dag_id, run_id or None)
    else:
        service.refresh()
        dag_ids = reader.readable(service.search.dag_ids())
    page = service.search.tracks(
        dag_ids, run_id or None, text=q.strip(), state=state, limit=TRACKS_SHOWN, offset=offset
    )
    return _answer(
        request,
        {
            "tracks": page.rows,
            "total": page.total,
            "states": page.states,
            "offset": offset,
            "page_size": TRACKS_SHOWN,
        },
    )


def _find_row(
    reader: ReaderDep,
    service: ServiceDep,
    dag_id: Name,
    run_id: Name,
    task_id: Name,
    map_index: int,
    track: Name,
) -> dict[str, Any]:
    """Find a track of a run that the user may read."""
    reader.require(dag_id)
    service.refresh(dag_id, run_id)
    row = service.search.track(dag_id, run_id, task_id, map_index, track)
    if row is None:
        raise HTTPException(404, "There is no such track in the reports of this run.")
    return row


RowDep = Annotated[dict[str, Any], Depends(_find_row)]


def _find_destination(service: RunIndexService, row: dict[str, Any]) -> Destination:
    destination = service.destinations().get(row["destination"])
    if destination is None:
        raise UnreadableError(
            f"Airflow no longer knows the connection of {row['destination']}. "
            "Add the address to [vocalsep] destinations."
        )
    return destination


@app.get("/api/track")
def track_details(request: Request, row: RowDep, reader: ReaderDep, service: ServiceDep) -> Response:
    """Return row, manifest and ledger entry of a track."""
    destination = _find_destination(service, row)
    store = service.store(destination)
    details: dict[str, Any] = {"row": row, "entry": None, "manifest": None, "problems": []}
    try:
        if manifest := read_manifest(store, destination, row):
            details["manifest"] = redact_manifest(manifest, reader.may_read)
    except UnreadableError as e:
        details["problems"].append(str(e))
    try:
        if entry := read_entry(store, destination, row):
            details["entry"] = redact_entry(entry, reader.may_read, row.get("manifest"))
    except UnreadableError as e:
        details["problems"].append(str(e))
    return _answer(request, details)


@app.api_route("/api/audio", methods=["GET", "HEAD"])
def audio(request: Request, row: RowDep, service: ServiceDep, stem: Name, download: bool = False) -> Response:
    """Stream a stem."""
    destination = _find_destination(service, row)
    store = service.store(destination)
    manifest = read_manifest(store, destination, row)
    landed = manifest.stem(stem) if manifest else None
    if landed is None:
        raise HTTPException(404, "There is no such stem in the manifest of this track.")
    extension = landed.uri.rpartition(".")[2]
    name = f"{row.get('title') or row['track']} - {stem}.{extension}".replace("/", "_") if download else None
    return stream_stem(
        store,
        destination.location,
        landed,
        request.headers,
        file_name=name,
        body=request.method == "GET",
    )


@cache
def _static_files() -> dict[str, tuple[bytes, str, str]]:
    """Read the page's files: bytes, media type and version of each."""
    files = {}
    for path in STATIC.iterdir():
        if path.suffix in _MEDIA_TYPES:
            body = path.read_bytes()
            files[path.name] = (body, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return files


def _serve_static(request: Request, name: str) -> Response:
    if name not in _static_files():
        raise HTTPException(404, "There is no such file.")
    body, media_type, etag = _static_files()[name]
    return _send(request, body, etag, media_type)


def _answer(request: Request, content: dict[str, Any]) -> Response:
    """Send JSON, or 304 if the browser has it: the page polls every two seconds."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return _send(request, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', "application/json")


def _send(request: Request, body: bytes, etag: str, media_type: str) -> Response:
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(body, 200, headers, media_type)
