"""A download host with faults on demand, and MP3 files for it."""

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

#: One frame of MPEG-1 layer III, 128 kbit/s, 44.1 kHz, stereo: 417 bytes for 1152 samples.
_FRAME_HEADER, _FRAME_BYTES, _FRAME_SECONDS = b"\xff\xfb\x90\x64", 417, 1152 / 44100


def mp3(seconds: float, seed: int = 0) -> bytes:
    """Return an MP3 file of that duration: valid frames of random content."""
    source = random.Random(seed)
    frames = round(seconds / _FRAME_SECONDS)
    return b"".join(_FRAME_HEADER + source.randbytes(_FRAME_BYTES - 4) for _ in range(frames))


def mp3_of_bytes(size: int, seed: int = 0) -> bytes:
    """Return an MP3 file of about that size."""
    return mp3(size / _FRAME_BYTES * _FRAME_SECONDS, seed)


@dataclass
class HostedFile:
    """
    The file behind one path, and the faults of its answers.

    :param statuses: Statuses of the first answers; ``None`` serves the file.
    :param cuts: Bytes after which the first answers break off.
    :param ranges: Whether ``Range`` is honoured.
    :param content_length: A false Content-Length; 0 omits it.
    :param redirect_to: Address of a redirect.
    :param next_body: Content after the first answer, with another ETag.
    """

    body: bytes
    statuses: list[int | None] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    etag: str | None = '"one"'
    ranges: bool = True
    chunked: bool = False
    content_length: int | None = None
    redirect_to: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    next_body: bytes | None = None


class StemHost:
    """
    The running host.

    :ivar requests: Path and lower-case headers of every request.
    :ivar connections: Number of connections.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port: int = server.server_address[1]
        self.files: dict[str, HostedFile] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0

    def reset(self) -> None:
        self.files.clear()
        self.requests.clear()
        self.connections = 0

    def serve(self, path: str, body: bytes = b"", **faults: Any) -> str:
        """Serve a file, see :class:`HostedFile`, and return its link."""
        self.files[path] = HostedFile(body, **faults)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def requested_paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def requested_ranges(self, path: str) -> list[str]:
        """Return the Range header of each request of a path; empty where it has none."""
        return [headers.get("range", "") for requested, headers in self.requests if requested == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: StemHost

    def setup(self) -> None:
        super().setup()
        self.host.connections += 1

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.host.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        file = self.host.files.get(path)
        status = file.statuses.pop(0) if file and file.statuses else None
        if file is None or status is not None:
            self._answer(status or 404, b"<html>no</html>")
        elif file.redirect_to is not None:
            self._answer(302, b"", {"Location": file.redirect_to})
        else:
            self._serve(file)

    def _serve(self, file: HostedFile) -> None:
        body, headers, status = file.body, dict(file.headers), 200
        if file.etag:
            headers["ETag"] = file.etag
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and file.ranges and self.headers.get("If-Range", file.etag) == file.etag:
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        cut = file.cuts.pop(0) if file.cuts else None
        if file.next_body is not None:
            file.body, file.next_body, file.etag = file.next_body, None, file.etag and '"two"'
        self._answer(status, body, headers, file, cut)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        file: HostedFile | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        length = len(body) if file is None or file.content_length is None else file.content_length
        chunked = file is not None and file.chunked
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif length or not body:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if chunked:
            for start in range(0, len(body), 100_000):
                piece = body[start : start + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None or length != len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: clients of these tests break connections on purpose."""


@contextmanager
def running_stem_host() -> Iterator[StemHost]:
    """Run a host until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    host = StemHost(server)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"host": host})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
