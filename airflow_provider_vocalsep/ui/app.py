"""
The page's routes. All only read, and each asks Airflow who is there; those about a DAG ask whether they may read it.

Nothing that a browser sends is an address: objects are found through the run report, the manifest and the ledger entry, and
only under destinations that Airflow knows of.
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
from airflow_provider_vocalsep.ui.airflow_runs import runs_in_airflow
from airflow_provider_vocalsep.ui.audio import stream_stem
from airflow_provider_vocalsep.ui.documents import (
    UnreadableError,
    read_entry,
    read_manifest,
    shown_entry,
    shown_manifest,
)
from airflow_provider_vocalsep.ui.headers import SafeHeaders
from airflow_provider_vocalsep.ui.run_index import RunIndexService, run_index_service
from airflow_provider_vocalsep.ui.search import NOTHING

if TYPE_CHECKING:
    from airflow_provider_vocalsep.ui.destinations import Source

STATIC = Path(__file__).with_name("static")

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: Rows of one page.
RUNS_SHOWN, TRACKS_SHOWN = 50, 100

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
app.add_middleware(SafeHeaders)

DeskDep = Annotated[RunIndexService, Depends(run_index_service)]
Text = Annotated[str, Query(max_length=300)]
Name = Annotated[str, Query(max_length=1000)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


@app.exception_handler(401)
async def log_in(request: Request, error: Exception) -> Response:
    """Show who opens the page the way to Airflow's login; tell its scripts what is the matter."""
    if request.url.path.endswith(("/", "/run", "/track", "/tracks")) and "/api/" not in request.url.path:
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), 307)
    return JSONResponse({"detail": "You are not logged in to Airflow, or not any more."}, 401)


@app.exception_handler(UnreadableError)
async def unreadable(request: Request, error: UnreadableError) -> Response:
    """Say why an object cannot be shown."""
    return JSONResponse({"detail": str(error)}, 502)


@app.get("/")
@app.get("/run")
@app.get("/tracks")
@app.get("/track")
def page(request: Request, reader: ReaderDep, desk: DeskDep) -> Response:
    """Serve the page; its script sees by the address what to show."""
    answer = _static(request, "index.html")
    # A first look takes a while: it begins while the browser loads the script that asks for it.
    answer.background = BackgroundTask(desk.look)
    return answer


@app.get("/static/{name}")
def static(request: Request, name: str, reader: ReaderDep) -> Response:
    """Serve a part of the page."""
    return _static(request, name)


@app.get("/api/runs")
def runs(request: Request, reader: ReaderDep, desk: DeskDep, q: Text = "", offset: Offset = 0) -> Response:
    """List runs, what changed last first."""
    troubles = desk.look()
    dag_ids = reader.readable(desk.search.dag_ids())
    rows, total = desk.search.runs(dag_ids, text=q, limit=RUNS_SHOWN, offset=offset)
    known = runs_in_airflow((row["dag_id"], row["run_id"]) for row in rows)
    shown = [{**row, "airflow": known.get((row["dag_id"], row["run_id"]))} for row in rows]
    begun = [] if q or offset else _begun(reader, desk)
    return _answer(
        request,
        {
            "runs": begun + shown,
            "total": total + len(begun),
            "offset": offset,
            "page_size": RUNS_SHOWN,
            "destinations": len(desk.sources()),
            # Addresses of buckets are for those who may see what lies there.
            "troubles": troubles if dag_ids or not desk.search.dag_ids() else [],
            "reading": desk.reading(),
            "unread": desk.unread(),
        },
    )


def _begun(reader: Reader, desk: RunIndexService) -> list[dict[str, Any]]:
    """List runs that are under way and have not written anything yet."""
    names = {name for source in desk.sources().values() for name in source.names.values()}
    silent = [name for name in desk.search.unknown(names) if reader.may_read(name[0])]
    known = runs_in_airflow(silent)
    return [
        {**NOTHING, "dag_id": name[0], "run_id": name[1], "airflow": known[name]}
        for name in sorted(silent, key=lambda name: known.get(name, {}).get("start") or "", reverse=True)
        if known.get(name, {}).get("state") in ("queued", "running")
    ]


@app.get("/api/run")
def run(request: Request, reader: ReaderDep, desk: DeskDep, dag_id: Name, run_id: Name) -> Response:
    """Count the tracks of a run."""
    reader.insist(dag_id)
    troubles = desk.look(dag_id, run_id)
    found = desk.search.run(dag_id, run_id)
    known = runs_in_airflow([(dag_id, run_id)]).get((dag_id, run_id))
    if found is None and known is None and " " in run_id:
        # Airflow 3.1 does not encode the run in the address of a tab, and a plus becomes a space.
        return run(request, reader, desk, dag_id, run_id.replace(" ", "+"))
    sources = desk.search.sources_of(dag_id, run_id)
    return _answer(
        request,
        {
            "dag_id": dag_id,
            "run_id": run_id,
            "run": found,
            "airflow": known,
            "destinations": sources,
            "troubles": troubles,
        },
    )


@app.get("/api/tracks")
def tracks(
    request: Request,
    reader: ReaderDep,
    desk: DeskDep,
    dag_id: Name = "",
    run_id: Name = "",
    q: Text = "",
    state: Annotated[str, Query(pattern="^(planned|waiting|landed|failed|left)?$")] = "",
    offset: Offset = 0,
) -> Response:
    """Search the tracks of a run, or of all."""
    if dag_id:
        reader.insist(dag_id)
        dag_ids = {dag_id}
        desk.look(dag_id, run_id or None)
    else:
        desk.look()
        dag_ids = reader.readable(desk.search.dag_ids())
    found = desk.search.tracks(
        dag_ids, run_id or None, text=q.strip(), state=state, limit=TRACKS_SHOWN, offset=offset
    )
    return _answer(
        request,
        {
            "tracks": found.rows,
            "total": found.total,
            "states": found.states,
            "offset": offset,
            "page_size": TRACKS_SHOWN,
        },
    )


def _row(
    reader: ReaderDep, desk: DeskDep, dag_id: Name, run_id: Name, task_id: Name, map_index: int, track: Name
) -> dict[str, Any]:
    """Find a track of a run that may be read."""
    reader.insist(dag_id)
    desk.look(dag_id, run_id)
    row = desk.search.track(dag_id, run_id, task_id, map_index, track)
    if row is None:
        raise HTTPException(404, "There is no such track in the reports of this run.")
    return row


RowDep = Annotated[dict[str, Any], Depends(_row)]


def _source(desk: RunIndexService, row: dict[str, Any]) -> Source:
    source = desk.sources().get(row["source"])
    if source is None:
        raise UnreadableError(
            f"Airflow has forgotten which connection {row['source']} belongs to. Name it in [vocalsep] destinations."
        )
    return source


@app.get("/api/track")
def track_story(request: Request, row: RowDep, reader: ReaderDep, desk: DeskDep) -> Response:
    """Tell all that is known of a track."""
    source = _source(desk, row)
    client = desk.client(source)
    told: dict[str, Any] = {"row": row, "entry": None, "manifest": None, "problems": []}
    try:
        if manifest := read_manifest(client, source, row):
            told["manifest"] = shown_manifest(manifest, reader.may_read)
    except UnreadableError as e:
        told["problems"].append(str(e))
    try:
        if entry := read_entry(client, source, row):
            told["entry"] = shown_entry(entry, reader.may_read, row.get("manifest"))
    except UnreadableError as e:
        told["problems"].append(str(e))
    return _answer(request, told)


@app.api_route("/api/audio", methods=["GET", "HEAD"])
def audio(request: Request, row: RowDep, desk: DeskDep, stem: Name, download: bool = False) -> Response:
    """Stream a stem."""
    source = _source(desk, row)
    client = desk.client(source)
    manifest = read_manifest(client, source, row)
    found = manifest.stem(stem) if manifest else None
    if found is None:
        raise HTTPException(404, "There is no such stem in the manifest of this track.")
    ending = found.uri.rpartition(".")[2]
    name = f"{row.get('title') or row['track']} - {stem}.{ending}".replace("/", "_") if download else None
    return stream_stem(
        client,
        source.destination,
        found,
        request.headers,
        file_name=name,
        body=request.method == "GET",
    )


@cache
def _parts() -> dict[str, tuple[bytes, str, str]]:
    """Read the page's files: bytes, type and version of each."""
    found = {}
    for path in STATIC.iterdir():
        if path.suffix in _KINDS:
            body = path.read_bytes()
            found[path.name] = (body, _KINDS[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def _static(request: Request, name: str) -> Response:
    if name not in _parts():
        raise HTTPException(404, "There is no such part of the page.")
    body, kind, etag = _parts()[name]
    return _sent(request, body, etag, kind)


def _answer(request: Request, content: dict[str, Any]) -> Response:
    """Send JSON, or 304 to whoever has it: the page asks every two seconds."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return _sent(request, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', "application/json")


def _sent(request: Request, body: bytes, etag: str, kind: str) -> Response:
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(body, 200, headers, kind)
