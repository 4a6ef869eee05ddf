"""The vendor's HTTP API, and the sandbox's own pages beside it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.sandbox import contract
from airflow_provider_vocalsep.sandbox.books import Books, now_ms
from airflow_provider_vocalsep.sandbox.downloads import TRANSPORT, StemResponse, broken, cut
from airflow_provider_vocalsep.sandbox.engine.separate import Separator
from airflow_provider_vocalsep.sandbox.faults import Fault, Faults
from airflow_provider_vocalsep.sandbox.options import PRICES, SandboxOptions
from airflow_provider_vocalsep.sandbox.songs import songs
from airflow_provider_vocalsep.sandbox.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HTML = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


class Vendor:
    """
    The state behind the API.

    :param options: The sandbox's options.
    """

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.voice = contract.VOICES[options.dialect]
        self.books = Books(options.state_dir, options.credits)
        self.faults = Faults(options.faults)
        self.separator = Separator(options.cache_dir, options.engine, tiny=options.tiny_stems)
        self.worker = Worker(options, self.books, self.faults, self.separator, self.voice)
        self._accepted: deque[float] = deque()

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Accept or refuse a submit, and return the answer."""
        body.setdefault("type", SeparationType.SEPARATE_VOCAL.value)
        problem = self._problem(body)
        if problem is None and self._too_fast():
            problem = self.voice.too_fast
        if problem is None:
            vendor_task_id = self.books.accept(body, PRICES[body["type"]])
            if vendor_task_id is not None:
                self._accepted.append(time.monotonic())
                return contract.success({"taskId": vendor_task_id})
            problem = self.voice.no_credits
        self.books.refuse(problem[0], body)
        return contract.error(*problem)

    def record(self, vendor_task_id: str) -> Any:
        """Return the record of a task, ``None`` for one that is not known or not visible yet."""
        task = self.books.task(vendor_task_id)
        if task is None:
            return None
        self.books.polled(vendor_task_id)
        if now_ms() < task["created_ms"] + self.options.visible_after * 1000:
            return None
        return contract.record(task, self.worker.links(task), self.voice)

    def _problem(self, body: dict[str, Any]) -> tuple[int, str] | None:
        if not body.get("callBackUrl"):
            return 422, "Please enter callBackUrl."
        if body["type"] not in PRICES:
            return 422, "type is invalid"
        if body["type"] == SeparationType.SPLIT_STEM_ADVANCED.value and not body.get("stemName"):
            return 422, "Please enter stemName."
        if body.get("audioUrl"):
            both = body.get("taskId") or body.get("audioId")
            return (422, "audioUrl cannot be used with taskId and audioId") if both else None
        pair = body.get("taskId"), body.get("audioId")
        if self.options.tiny_stems and all(pair):
            return None
        known = any((song.task_id, song.audio_id) == pair for song in songs())
        return None if known else (422, "Record does not exist")

    def _too_fast(self) -> bool:
        submits, seconds = self.options.rate
        while self._accepted and time.monotonic() - self._accepted[0] > seconds:
            self._accepted.popleft()
        return len(self._accepted) >= submits


def create_app(options: SandboxOptions) -> FastAPI:
    """Build the sandbox's application."""
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
    def refused(request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {vendor.options.api_key}":
            return _answer(contract.UNAUTHORIZED)
        return None

    @app.post("/api/v1/vocal-removal/generate")
    async def generate(request: Request) -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _answer(contract.error(400, "The request body is not valid JSON."))
        return await _generate(vendor, body, request)

    @app.get("/api/v1/vocal-removal/record-info")
    async def record_info(request: Request, taskId: str = "") -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        return await _record_info(vendor, taskId)

    @app.get(vendor.voice.credit_path)
    async def credit(request: Request) -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        balance = vendor.books.credits
        return _answer(contract.success(balance if vendor.options.dialect == "kie" else int(balance)))


async def _generate(vendor: Vendor, body: dict[str, Any], request: Request) -> Response:
    track = {
        "audio_id": body.get("audioId"),
        "task_id": body.get("taskId"),
        "audio_url": body.get("audioUrl"),
    }
    fault = vendor.faults.strike("submit", track)
    if fault is not None and fault.kind not in ("accept_then_drop", "slow"):
        return _trouble(fault)
    answer = vendor.submit(body)
    if answer["code"] == 200:
        vendor_task_id = answer["data"]["taskId"]
        if vendor.faults.strike("callback", track, kinds=("early",)):
            vendor.worker.call_back_now(vendor_task_id)
            await asyncio.sleep(0.2)
        vendor.worker.start(vendor_task_id)
    if fault is not None and fault.kind == "accept_then_drop":
        await cut(request.scope)
    elif fault is not None:
        await asyncio.sleep(fault.seconds)
    return _answer(answer)


async def _record_info(vendor: Vendor, vendor_task_id: str) -> Response:
    fault = vendor.faults.strike(
        "read", vendor.books.task(vendor_task_id) or {"vendor_task_id": vendor_task_id}
    )
    kind = fault.kind if fault is not None else None
    if fault is not None and kind in ("html", "truncated", "code", "http_429"):
        vendor.books.polled(vendor_task_id)
        return _trouble(fault)
    data = vendor.record(vendor_task_id)
    if fault is not None and kind == "slow":
        await asyncio.sleep(fault.seconds)
    if kind == "null":
        data = None
    if data is not None and kind == "no_urls":
        data["response"] = {"id": None, "originUrl": None, "originData": None}
    return _answer(contract.success(data))


def _add_download_route(app: FastAPI, vendor: Vendor) -> None:
    @app.get("/s/{file_name}")
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
        fault = vendor.faults.strike("download", row, stem=row["name"])
        instead = broken(fault) if fault is not None else None
        if instead is not None:
            return instead
        vendor.books.downloaded(file_name)
        data = await asyncio.to_thread(Path(row["path"]).read_bytes)
        return StemResponse(data, request.headers, fault)


def _add_sandbox_routes(app: FastAPI, vendor: Vendor) -> None:
    @app.get("/sandbox/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "dialect": vendor.options.dialect}

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

    @app.get("/sandbox/books")
    async def books() -> dict[str, Any]:
        return {**vendor.books.report(), "separations": vendor.separator.separations}

    @app.get("/sandbox/faults")
    async def list_faults() -> list[dict[str, Any]]:
        return vendor.faults.all()

    @app.post("/sandbox/faults")
    async def switch_on(fault: Fault) -> dict[str, Any]:
        vendor.faults.switch_on(fault)
        return fault.model_dump()

    @app.delete("/sandbox/faults")
    async def switch_all_off() -> dict[str, str]:
        vendor.faults.switch_off()
        return {"status": "ok"}

    @app.delete("/sandbox/faults/{fault_id}")
    async def switch_off(fault_id: str) -> dict[str, str]:
        vendor.faults.switch_off(fault_id)
        return {"status": "ok"}


def with_transport(app: FastAPI) -> Any:
    """Wrap the application so that faults can close the connection under an answer (uvicorn only)."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await app(scope, receive, send)

    return wrapped


def _trouble(fault: Fault) -> Response:
    if fault.kind == "html":
        return HTMLResponse(_HTML, status_code=int(fault.status or 502))
    if fault.kind == "truncated":
        return Response(b'{"code":200,"msg":"success","data":{"taskI', media_type="application/json")
    if fault.kind == "http_429":
        headers = {"Retry-After": str(int(fault.seconds))}
        return PlainTextResponse("Too Many Requests", status_code=429, headers=headers)
    return _answer(contract.error(fault.code, fault.message or "The server is having a bad day."))


def _answer(body: dict[str, Any]) -> Response:
    return JSONResponse(body, headers={"Content-Type": "application/json;charset=UTF-8"})
