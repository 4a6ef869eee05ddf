"""A host of stems that behaves as badly as it is told to, and sounds to put on it."""

from __future__ import annotations

import random
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One frame of MPEG-1 layer III, 128 kbit/s, 44.1 kHz, stereo: 417 bytes that play 1152 samples.
_FRAME_HEADER, _FRAME_BYTES, _FRAME_SECONDS = b"\xff\xfb\x90\x64", 417, 1152 / 44100


def mp3(seconds: float, seed: int = 0) -> bytes:
    """Frames that are valid and noise inside."""
    source = random.Random(seed)
    frames = round(seconds / _FRAME_SECONDS)
    return b"".join(_FRAME_HEADER + source.randbytes(_FRAME_BYTES - 4) for _ in range(frames))


def mp3_of_bytes(size: int, seed: int = 0) -> bytes:
    return mp3(size / _FRAME_BYTES * _FRAME_SECONDS, seed)


@dataclass
class Hosted:
    """What is behind one path, and how it is served."""

    body: bytes
    #: What is answered, in order, before it is served for good; ``None`` serves it.
    statuses: list[int | None] = field(default_factory=list)
    #: After how many bytes each answer breaks off; the ones after are whole.
    cuts: list[int] = field(default_factory=list)
    etag: str | None = '"one"'
    ranges: bool = True
    chunked: bool = False
    #: What Content-Length says, if not the truth; 0 leaves it out.
    announced: int | None = None
    location: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: What it becomes after the first answer, with another ETag.
    becomes: bytes | None = None


class StemHost:
    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.files: dict[str, Hosted] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0

    def serve(self, path: str, body: bytes = b"", **how: Any) -> str:
        self.files[path] = Hosted(body, **how)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges_asked(self, path: str) -> list[str]:
        return [headers.get("range", "") for asked, headers in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: StemHost

    def setup(self) -> None:
        super().setup()
        self.host.connections += 1

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.host.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        hosted = self.host.files.get(path)
        status = hosted.statuses.pop(0) if hosted and hosted.statuses else None
        if hosted is None or status is not None:
            self._answer(status or 404, b"<html>no</html>")
        elif hosted.location is not None:
            self._answer(302, b"", {"Location": hosted.location})
        else:
            self._serve(hosted)

    def _serve(self, hosted: Hosted) -> None:
        body, headers, status = hosted.body, dict(hosted.headers), 200
        if hosted.etag:
            headers["ETag"] = hosted.etag
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and hosted.ranges and self.headers.get("If-Range", hosted.etag) == hosted.etag:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        cut = hosted.cuts.pop(0) if hosted.cuts else None
        if hosted.becomes is not None:
            hosted.body, hosted.becomes, hosted.etag = hosted.becomes, None, hosted.etag and '"two"'
        self._answer(status, body, headers, hosted, cut)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        hosted: Hosted | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        announced = len(body) if hosted is None or hosted.announced is None else hosted.announced
        if hosted and hosted.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif announced:
            self.send_header("Content-Length", str(announced))
        elif not body:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if hosted and hosted.chunked:
            for start in range(0, len(body), 100_000):
                piece = body[start : start + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None or announced != len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests hang up whenever they like."""


@contextmanager
def running_stem_host() -> Iterator[StemHost]:
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    host = handler.host = StemHost(server)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
