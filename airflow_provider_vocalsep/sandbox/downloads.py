"""Serving stems as the vendor's CDN does, and as it does on a bad day."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_vocalsep.sandbox.faults import Fault

#: Key in the ASGI scope under which the server leaves the connection's transport, see ``app.py``.
TRANSPORT = "vocalsep.transport"

_BLOCK = 1 << 16
#: Bytes that a ``short`` answer announces and does not send.
_MISSING = 1000


class StemResponse(Response):
    """
    One stem, whole or a range of it.

    :param data: The file.
    :param request_headers: Headers of the request.
    :param fault: What goes wrong with it.
    """

    def __init__(self, data: bytes, request_headers: Any, fault: Fault | None = None) -> None:
        super().__init__(media_type="audio/mpeg")
        self._fault = fault if fault is not None and fault.kind in ("short", "drop", "corrupt") else None
        if self._fault is not None and self._fault.kind == "corrupt":
            data = data[: self._fault.after] + bytes(b ^ 0x55 for b in data[self._fault.after :])
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        self.headers["ETag"] = etag
        self.headers["Accept-Ranges"] = "bytes"
        start, end = 0, len(data)
        no_range = fault is not None and fault.kind == "no_range"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request_headers.get("range", ""))
        if wanted and not no_range and request_headers.get("if-range", etag) == etag:
            start, end = int(wanted[1]), min(int(wanted[2]) + 1 if wanted[2] else len(data), len(data))
            if start >= len(data):
                self.status_code = 416
                self.headers["Content-Range"] = f"bytes */{len(data)}"
                start = end = 0
            else:
                self.status_code = 206
                self.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._data = data[start:end]
        missing = _MISSING if self._fault is not None and self._fault.kind == "short" else 0
        self.headers["Content-Length"] = str(len(self._data) + missing)

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Send it, and cut the connection where the fault says."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data = self._data
        if self._fault is not None and self._fault.kind == "drop":
            data = data[: self._fault.after]
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            await send({"type": "http.response.body", "body": block, "more_body": True})
        if self._fault is not None and self._fault.kind in ("drop", "short"):
            await cut(scope)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def cut(scope: Any) -> None:
    """Close the connection under a response."""
    transport = scope.get(TRANSPORT)
    if transport is not None:
        transport.close()
        await asyncio.sleep(
            0.05
        )  # lets the server notice, so that it does not complain of an unfinished answer


def broken(fault: Fault) -> Response | None:
    """Return the answer that stands in for a file, when the fault replaces it whole."""
    if fault.kind == "html":
        return HTMLResponse("<!DOCTYPE html><html><body><h1>Just a moment…</h1></body></html>")
    if fault.kind == "empty":
        return Response(b"", media_type="audio/mpeg")
    if fault.kind == "redirect":
        return RedirectResponse(fault.to, status_code=302)
    if fault.kind == "expired":
        return PlainTextResponse("link expired", status_code=int(fault.status or 403))
    return None
