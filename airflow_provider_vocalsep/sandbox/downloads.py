"""Serves stems as the vendor's CDN does, with its faults on demand."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_vocalsep.sandbox.faults import Fault

#: Key of the connection's transport in the ASGI scope, see ``app.with_transport``.
TRANSPORT = "vocalsep.transport"

_BLOCK = 1 << 16
#: Bytes that a ``short`` answer announces but does not send.
_MISSING = 1000


class StemResponse(Response):
    """
    One stem, or a range of it.

    :param data: The whole file.
    :param fault: Fault to inject.
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
        """Send the stem, and close the connection where the fault says."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data = self._data
        if self._fault is not None and self._fault.kind == "drop":
            data = data[: self._fault.after]
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            await send({"type": "http.response.body", "body": block, "more_body": True})
        if self._fault is not None and self._fault.kind in ("drop", "short"):
            await close_connection(scope)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def close_connection(scope: Any) -> None:
    """Close the connection of a request before its answer is complete."""
    transport = scope.get(TRANSPORT)
    if transport is not None:
        transport.close()
        # Otherwise the server logs an incomplete answer.
        await asyncio.sleep(0.05)


def replace_response(fault: Fault) -> Response | None:
    """Return the answer that a fault sends instead of the file; ``None`` if it sends the file."""
    if fault.kind == "html":
        return HTMLResponse("<!DOCTYPE html><html><body><h1>Just a moment…</h1></body></html>")
    if fault.kind == "empty":
        return Response(b"", media_type="audio/mpeg")
    if fault.kind == "redirect":
        return RedirectResponse(fault.to, status_code=302)
    if fault.kind == "expired":
        return PlainTextResponse("link expired", status_code=int(fault.status or 403))
    return None
