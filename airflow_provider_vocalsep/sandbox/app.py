"""The vendor's HTTP API, and the sandbox's own endpoints below ``/sandbox/``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from airflow_provider_vocalsep.sandbox import contract
from airflow_provider_vocalsep.sandbox.books import now_ms
from airflow_provider_vocalsep.sandbox.downloads import (
    TRANSPORT,
    StemResponse,
    close_connection,
    replace_response,
)
from airflow_provider_vocalsep.sandbox.faults import Fault  # noqa: TC001 - FastAPI reads the annotation
from airflow_provider_vocalsep.sandbox.songs import songs
from airflow_provider_vocalsep.sandbox.vendor import Vendor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_vocalsep.sandbox.options import SandboxOptions

_HTML = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


def create_app(options: SandboxOptions) -> FastAPI:
    """
    Build the sandbox's application.

    :raises ValueError: a fault or the submit rate has a wrong format.
    :raises WeightsMissingError: ``engine="spleeter"`` without its weights.
    """
    vendor = Vendor(options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for vendor_task_id in vendor.books.unfinished():
            vendor.worker.start(vendor_task_id)
        yield
        await vendor.worker.stop()
        vendor.books.close()

    app = FastAPI(title="vocalsep sandbox", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.vendor = vendor
    _add_vendor_routes(app, vendor)
    _add_download_route(app, vendor)
    _add_sandbox_routes(app, vendor)
    return app


def _add_vendor_routes(app: FastAPI, vendor: Vendor) -> None:
    def require_api_key(request: Request) -> None:
        if not vendor.is_authorized(request):
            vendor.books.record_refusal(401, {})
            raise _RefusedError(contract.UNAUTHORIZED)

    @app.exception_handler(_RefusedError)
    async def answer_refusal(_: Request, error: _RefusedError) -> Response:
        return _json_response(error.args[0])

    api = APIRouter(dependencies=[Depends(require_api_key)])

    @api.post("/api/v1/vocal-removal/generate")
    async def generate(request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _json_response(contract.error(400, "The request body is not valid JSON."))
        return await _generate(vendor, body, request)

    @api.get("/api/v1/vocal-removal/record-info")
    async def record_info(taskId: str = "") -> Response:
        return await _record_info(vendor, taskId)

    @api.get(vendor.wording.credit_path)
    async def credit() -> Response:
        balance = vendor.books.credits
        return _json_response(contract.success(balance if vendor.options.dialect == "kie" else int(balance)))

    app.include_router(api)


class _RefusedError(Exception):
    """A request is refused; the argument is the body of the answer."""


async def _generate(vendor: Vendor, body: dict[str, Any], request: Request) -> Response:
    track = {
        "audio_id": body.get("audioId"),
        "task_id": body.get("taskId"),
        "audio_url": body.get("audioUrl"),
    }
    fault = vendor.faults.take("submit", track)
    if fault is not None and fault.kind not in ("accept_then_drop", "slow"):
        if fault.kind in ("code", "http_429"):
            vendor.books.record_refusal(fault.code if fault.kind == "code" else 429, body)
        return _faulty_response(fault)
    answer = vendor.submit(body)
    if answer["code"] == 200:
        vendor_task_id = answer["data"]["taskId"]
        if vendor.faults.take("callback", track, kinds=("early",)):
            await vendor.worker.call_back_early(vendor_task_id)
        vendor.worker.start(vendor_task_id)
    if fault is not None and fault.kind == "accept_then_drop":
        await close_connection(request.scope)
    elif fault is not None:
        await asyncio.sleep(fault.seconds)
    return _json_response(answer)


async def _record_info(vendor: Vendor, vendor_task_id: str) -> Response:
    track = vendor.books.task(vendor_task_id) or {"vendor_task_id": vendor_task_id}
    fault = vendor.faults.take("read", track)
    kind = fault.kind if fault is not None else None
    if fault is not None and kind in ("html", "truncated", "code", "http_429"):
        vendor.books.record_poll(vendor_task_id)
        return _faulty_response(fault)
    data = vendor.record(vendor_task_id)
    if fault is not None and kind == "slow":
        await asyncio.sleep(fault.seconds)
    if kind == "null":
        data = None
    if data is not None and kind == "no_urls":
        data["response"] = {"id": None, "originUrl": None, "originData": None}
    return _json_response(contract.success(data))


def _add_download_route(app: FastAPI, vendor: Vendor) -> None:
    @app.api_route("/s/{file_name}", methods=["GET", "HEAD"])
    async def stem(request: Request, file_name: str) -> Response:
        row = vendor.books.stem(file_name)
        if row is None:
            return PlainTextResponse("not found", status_code=404)
        agent = request.headers.get("user-agent", "")
        if agent.startswith("Python-urllib") and not vendor.options.allow_urllib:
            return PlainTextResponse("forbidden", status_code=403)
        expiry = vendor.options.link_expiry
        if expiry and now_ms() > row["completed_ms"] + expiry * 1000:
            return PlainTextResponse("link expired", status_code=403)
        fault = vendor.faults.take("download", row, stem=row["name"])
        replacement = replace_response(fault) if fault is not None else None
        if replacement is not None:
            return replacement
        try:
            data = await asyncio.to_thread(Path(row["path"]).read_bytes)
        except FileNotFoundError:  # the cache was deleted
            return PlainTextResponse("not found", status_code=404)
        if request.method == "GET":
            vendor.books.record_download(file_name)
        return StemResponse(data, request.headers, fault)


def _add_sandbox_routes(app: FastAPI, vendor: Vendor) -> None:
    @app.get("/sandbox/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "dialect": vendor.options.dialect, "engine": vendor.separator.engine_name}

    @app.get("/sandbox/catalogue")
    async def catalogue() -> list[dict[str, Any]]:
        base = vendor.worker.base_url
        return [
            {
                "key": song.key,
                "title": song.title,
                "task_id": song.task_id,
                "audio_id": song.audio_id,
                "duration": song.duration,
                "audio_url": f"{base}/sandbox/songs/{song.key}.flac",
            }
            for song in songs()
        ]

    @app.get("/sandbox/songs/{name}")
    def song_file(name: str) -> Response:
        song = next((s for s in songs() if f"{s.key}.flac" == name), None)
        if song is None:
            raise HTTPException(404, f"There is no song {name}.")
        return Response(song.file, media_type="audio/flac")

    # Not a coroutine: a report over thousands of tasks would block the vendor's answers.
    @app.get("/sandbox/books")
    def books(totals_only: bool = False) -> dict[str, Any]:
        report = vendor.books.totals() if totals_only else vendor.books.report()
        return {**report, "separations": vendor.separator.separations}

    @app.get("/sandbox/faults")
    async def list_faults() -> list[dict[str, Any]]:
        return vendor.faults.all()

    @app.post("/sandbox/faults")
    async def add_fault(fault: Fault) -> dict[str, Any]:
        vendor.faults.add(fault)
        return fault.model_dump()

    @app.delete("/sandbox/faults")
    async def remove_faults() -> dict[str, str]:
        vendor.faults.remove()
        return {"status": "ok"}

    @app.delete("/sandbox/faults/{fault_id}")
    async def remove_fault(fault_id: str) -> dict[str, str]:
        vendor.faults.remove(fault_id)
        return {"status": "ok"}


def with_transport(app: FastAPI) -> Any:
    """Wrap the application so that faults can close the connection of a request (uvicorn only)."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await app(scope, receive, send)

    return wrapped


def _faulty_response(fault: Fault) -> Response:
    if fault.kind == "html":
        return HTMLResponse(_HTML, status_code=int(fault.status or 502))
    if fault.kind == "truncated":
        return Response(b'{"code":200,"msg":"success","data":{"taskI', media_type="application/json")
    if fault.kind == "http_429":
        headers = {"Retry-After": str(int(fault.seconds))}
        return PlainTextResponse("Too Many Requests", status_code=429, headers=headers)
    return _json_response(contract.error(fault.code, fault.message or "The server is having a bad day."))


def _json_response(body: dict[str, Any]) -> Response:
    return JSONResponse(body, headers={"Content-Type": "application/json;charset=UTF-8"})
