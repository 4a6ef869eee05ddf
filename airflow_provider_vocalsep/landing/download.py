"""Download of one stem: streamed, hashed, and resumed after a broken connection."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

from requests.exceptions import ConnectionError as RequestsConnectionError, RequestException, Timeout
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)
from urllib3.exceptions import HTTPError

from airflow_provider_vocalsep.api.errors import StoppedError
from airflow_provider_vocalsep.landing.errors import (
    ContentChangedError,
    DownloadError,
    DownloadRefusedError,
    LinkExpiredError,
)

if TYPE_CHECKING:
    import requests
    from typing_extensions import Self

    from airflow_provider_vocalsep.landing.guard import DownloadGuard

log = logging.getLogger(__name__)

#: Bytes that are read at a time: large for few switches of the interpreter's lock, small beside a part.
CHUNK = 256 * 1024

#: Redirects that are followed, at most.
MAX_REDIRECTS = 5

#: Seconds to connect, and between two packets.
TIMEOUT = (10.0, 60.0)

#: Consecutive failed requests before giving up; with the waits between them about half a minute.
TRIES = 6

#: Connections for one stem: enough for a connection that breaks every few MB, and a limit for a host that
#: sends a few bytes per connection.
MAX_CONNECTIONS = 200

#: Seconds for one stem. A gigabyte in an hour is 300 kB/s; vendors' hosts deliver tens of MB/s.
MAX_SECONDS = 3600.0

#: Longest ``Retry-After`` that is honoured, in seconds.
_MAX_RETRY_AFTER = 30.0

#: Answers to an expired link: 401 and 403 to a signed one, 404 and 410 after the file was deleted.
_EXPIRED = frozenset({401, 403, 404, 410})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _BrokenOffError(DownloadError):
    """The connection broke; the missing bytes can be requested again."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Buffer(Protocol):
    """A buffer for downloaded bytes: a ``bytearray`` or an ``mmap``."""

    def __setitem__(self, span: slice, chunk: bytes, /) -> None:
        """Replace a span by bytes of the same length."""


class Download:
    """
    The bytes behind one link, in order, over as many connections as it takes. A context manager.

    After a broken connection, the next one requests the rest (``Range``, with ``If-Range`` so that the rest
    of another file is never sent). If the host gives no strong ``ETag`` or ignores ``Range``, the file is
    read from its start, and the known bytes are compared by digest and skipped.

    :param session: A guarded session.
    :param guard: For the size limit.
    :param stopped: Event that stops the download.
    :param max_wait: Longest wait before the first retry, in seconds; doubles with every retry.
    """

    def __init__(
        self,
        session: requests.Session,
        guard: DownloadGuard,
        url: str,
        *,
        stopped: threading.Event | None = None,
        max_wait: float = 0.5,
    ) -> None:
        self.url = url
        self.host = urlsplit(url).hostname or "?"
        self.received = 0
        self.total: int | None = None
        self.finished = False
        self._session = session
        self._guard = guard
        self._stopped = stopped or threading.Event()
        self._hash = hashlib.sha256()
        self._etag: str | None = None
        self._response: requests.Response | None = None
        self._connections = 0
        self._deadline = time.monotonic() + MAX_SECONDS
        self._max_wait = max_wait
        self._retrying = Retrying(
            retry=retry_if_exception_type(_BrokenOffError),
            wait=self._wait_seconds,
            stop=stop_after_attempt(TRIES),
            sleep=self._sleep,
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes received so far, hex."""
        return self._hash.hexdigest()

    def read_into(self, buffer: Buffer, limit: int) -> int:
        """
        Read the next bytes into a buffer, from its start.

        :param limit: Largest number of bytes.
        :return: Number of bytes read; fewer than ``limit`` only at the end of the file.
        :raises LinkExpiredError: the link has expired.
        :raises ContentChangedError: the file changed since the first connection.
        :raises DownloadRefusedError: the guard refuses the link, or the file is too large.
        :raises DownloadError: the file cannot be downloaded.
        """
        filled = 0
        while filled < limit and not self.finished:
            chunk = self._read_resuming(min(CHUNK, limit - filled))
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return filled

    def _read_resuming(self, size: int) -> bytes:
        if self._response is not None:
            try:
                return self._read_some(size)
            except _BrokenOffError as e:
                log.info("%s Requesting the rest.", e)
        return self._retrying(self._read_some, size)

    def _read_some(self, size: int) -> bytes:
        self._check_limits()
        if self._response is None:
            self._response = self._open()
        chunk = self._read(self._response, size)
        self.received += len(chunk)
        self._hash.update(chunk)
        if self.received > self._guard.max_bytes:
            raise self._too_large(f"more than {self._guard.max_bytes}")
        if not chunk and self.total is not None and self.received < self.total:
            raise self._broken_off(f"it ended after {self.received} of {self.total} bytes")
        if not chunk or self.received == self.total:
            self.finished = True
            self._return_connection()
        return chunk

    def _read(self, response: requests.Response, size: int) -> bytes:
        try:
            # Not read(), which waits for all bytes: a host that sends few could block it for ever.
            chunk: bytes = response.raw.read1(size, decode_content=False)
        except (HTTPError, OSError) as e:
            raise self._broken_off(f"the connection broke after {self.received} bytes ({e})") from e
        return chunk

    def _open(self) -> requests.Response:
        """Request the missing bytes."""
        resuming = self.received > 0
        headers = {}
        if resuming and self._etag:
            headers = {"Range": f"bytes={self.received}-", "If-Range": self._etag}
        response = self._follow(headers)
        try:
            self._check_status(response)
            if not resuming:
                self._check_whole(response)
            elif response.status_code == 206:
                self._check_range(response)
            else:
                self._skip_known(response)
        except BaseException:
            response.close()
            raise
        if resuming:
            log.info("The download from %s resumes at byte %d.", self.host, self.received)
        return response

    def _follow(self, headers: dict[str, str]) -> requests.Response:
        """Send the request and follow redirects; requests would read their bodies completely."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            self._connections += 1
            self._guard.check_url(url)
            try:
                response = self._session.get(
                    url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
                )
            except (RequestsConnectionError, Timeout) as e:
                raise self._broken_off(f"no connection ({_root_cause(e)})") from e
            except RequestException as e:
                raise DownloadError(f"Could not download from {self.host}: {type(e).__name__}.") from e
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return response
            url = urljoin(url, response.headers["Location"])
            response.close()
        raise DownloadError(f"Could not download from {self.host}: more than {MAX_REDIRECTS} redirects.")

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in _EXPIRED:
            raise LinkExpiredError(f"The link to {self.host} has expired: it answers {status}.")
        if status in _TRANSIENT:
            seconds = response.headers.get("Retry-After", "")
            raise self._broken_off(f"it answers {status}", float(seconds) if seconds.isdigit() else 0.0)
        if status == 416 and self.received:
            raise self._changed(f"it has no bytes after {self.received}")
        if status not in (200, 206):
            raise DownloadError(f"Could not download from {self.host}: it answers {status}.")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise DownloadError(
                f"Could not download from {self.host}: it sends the file encoded ({encoding})."
            )

    def _check_whole(self, response: requests.Response) -> None:
        if response.status_code == 206:
            raise DownloadError(f"Could not download from {self.host}: it sends only a part of the file.")
        self.total = _content_length(response)
        if self.total is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
            raise DownloadError(
                f"Could not download from {self.host}: its answer has no Content-Length, so a truncated file "
                "could not be recognised."
            )
        if self.total is not None and self.total > self._guard.max_bytes:
            raise self._too_large(str(self.total))
        etag = response.headers.get("ETag", "")
        self._etag = etag if etag.startswith('"') else None

    def _check_range(self, response: requests.Response) -> None:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != self.received:
            raise DownloadError(
                f"Could not download from {self.host}: the request is for the bytes from {self.received} on, "
                f"the answer has Content-Range {response.headers.get('Content-Range')!r}."
            )
        if self.total is not None and match[2] not in ("*", str(self.total)):
            raise self._changed(f"it has {match[2]} bytes")

    def _skip_known(self, response: requests.Response) -> None:
        """Read the known bytes again, and check that they are the same."""
        length = _content_length(response)
        if self.total is not None and length != self.total:
            raise self._changed(f"it has {length} bytes")
        known, left = hashlib.sha256(), self.received
        while left:
            self._check_limits()
            chunk = self._read(response, min(CHUNK, left))
            if not chunk:
                raise self._broken_off(f"the connection broke before byte {self.received}")
            known.update(chunk)
            left -= len(chunk)
        if known.digest() != self._hash.digest():
            raise self._changed("it begins with other bytes")

    def _check_limits(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("The landing was stopped.")
        if self._connections > MAX_CONNECTIONS or time.monotonic() > self._deadline:
            raise DownloadError(
                f"Could not download from {self.host}: only {self.received} of {self.total or '?'} bytes "
                f"arrived in {self._connections} connections. The limits are {MAX_CONNECTIONS} connections "
                f"and {MAX_SECONDS / 60:.0f} minutes."
            )

    def _broken_off(self, what: str, retry_after: float = 0.0) -> _BrokenOffError:
        self._close()
        return _BrokenOffError(
            f"Could not download from {self.host}: {what}.", min(retry_after, _MAX_RETRY_AFTER)
        )

    def _changed(self, how: str) -> ContentChangedError:
        return ContentChangedError(
            f"The download from {self.host} broke off after {self.received} of {self.total or '?'} bytes, "
            f"and the file has changed since: {how}."
        )

    def _too_large(self, size: str) -> DownloadRefusedError:
        self._close()
        return DownloadRefusedError(
            f"Refused to download from {self.host}: the file has {size} bytes, but the limit is "
            f"{self._guard.max_bytes} (max_bytes of the DownloadGuard)."
        )

    def _wait_seconds(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        retry_after = error.retry_after if isinstance(error, _BrokenOffError) else 0.0
        return max(retry_after, wait_random_exponential(multiplier=self._max_wait, max=10)(state))

    def _return_connection(self) -> None:
        """Read the body to its end, so that the connection returns to the pool for the next stem."""
        if self._response is not None:
            self._response.raw.drain_conn()
        self._close()

    def _sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "").strip()
    return int(length) if length.isdigit() else None


def _root_cause(error: BaseException) -> BaseException:
    """Return the cause of an error of requests, whose own text holds the link, which may be a secret."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
