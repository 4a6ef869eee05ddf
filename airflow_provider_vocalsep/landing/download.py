"""Downloading one stem: streamed, hashed on the way, resumed where it broke off."""

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

from airflow_provider_vocalsep.landing.errors import (
    ContentChangedError,
    DownloadError,
    DownloadRefusedError,
    LinkExpiredError,
)

if TYPE_CHECKING:
    from types import TracebackType

    import requests
    from typing_extensions import Self

    from airflow_provider_vocalsep.landing.guard import DownloadGuard

log = logging.getLogger(__name__)

#: Bytes that are read at a time: fewer rounds for the interpreter's lock, and little beside a part.
CHUNK = 256 * 1024

#: Redirects that are followed.
MAX_REDIRECTS = 5

#: Seconds to connect, and between two packets.
TIMEOUT = (10.0, 60.0)

#: Tries in a row that bring nothing; with the pauses between them about half a minute.
TRIES = 6

#: Connections for one stem: what a line needs that breaks every few MB, and an end for a host that doles out bytes.
MAX_CONNECTIONS = 200

#: Seconds for one stem. A gigabyte in an hour is 300 kB/s; vendors' hosts deliver tens of MB/s.
MAX_SECONDS = 3600.0

#: Longest pause that a host may ask for, in seconds.
_MAX_PAUSE = 30.0

#: What a host answers when its link has run out: signed links 401 and 403, swept files 404 and 410.
_EXPIRED = frozenset({401, 403, 404, 410})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class StoppedError(DownloadError):
    """The landing was given up while this download was under way."""


class _BrokenOffError(DownloadError):
    """The connection broke; what is missing can be asked for again."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Buffer(Protocol):
    """What bytes are read into: a ``bytearray`` or an ``mmap``."""

    def __setitem__(self, span: slice, chunk: bytes, /) -> None:
        """Replace a part by as many bytes."""


class Download:
    """
    The bytes behind one link, in order, whatever happens to the connections.

    A broken connection is followed by another one that asks for the rest (``Range``, with ``If-Range`` so that the
    rest of another file never comes). Where the host gives no strong ``ETag`` or ignores ``Range``, the file is read
    from its start and what is known already is compared by digest and skipped.

    Use as a context manager.

    :param session: A guarded session.
    :param guard: For the size limit.
    :param url: The link.
    :param stopped: Set from outside to give up.
    :param pause: Longest pause before the first try again, in seconds; doubles with every try.
    """

    def __init__(
        self,
        session: requests.Session,
        guard: DownloadGuard,
        url: str,
        *,
        stopped: threading.Event | None = None,
        pause: float = 0.5,
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
        self._first_pause = pause
        self._retrying = Retrying(
            retry=retry_if_exception_type(_BrokenOffError),
            wait=self._pause,
            stop=stop_after_attempt(TRIES),
            sleep=self._wait,
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def sha256(self) -> str:
        """SHA-256 of everything received, hex."""
        return self._hash.hexdigest()

    def read_into(self, buffer: Buffer, limit: int) -> int:
        """
        Fill a buffer from its start.

        :param buffer: Takes the bytes by slice assignment.
        :param limit: How many bytes at most.
        :return: How many came; fewer than ``limit`` only at the end of the file.
        :raises LinkExpiredError: the link has run out.
        :raises ContentChangedError: the file is not the one that was begun with.
        :raises DownloadRefusedError: the guard refuses the link, or the file is too large.
        :raises DownloadError: it cannot be downloaded.
        """
        filled = 0
        while filled < limit and not self.finished:
            chunk = self._next(min(CHUNK, limit - filled))
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return filled

    def _next(self, size: int) -> bytes:
        if self._response is not None:
            try:
                return self._read_some(size)
            except _BrokenOffError as e:
                log.info("%s Asking for the rest.", e)
        return self._retrying(self._read_some, size)

    def _read_some(self, size: int) -> bytes:
        self._check_patience()
        if self._response is None:
            self._response = self._open()
        chunk = self._read(self._response, size)
        self.received += len(chunk)
        self._hash.update(chunk)
        if self.received > self._guard.max_bytes:
            raise self._too_large(f"more than {self._guard.max_bytes}")
        if not chunk and self.total is not None and self.received < self.total:
            raise self._broken(f"it ended after {self.received} of {self.total} bytes")
        if not chunk or self.received == self.total:
            self.finished = True
            self._hand_back()
        return chunk

    def _read(self, response: requests.Response, size: int) -> bytes:
        try:
            # Not read(): that waits until all of it is there, and a host that doles out bytes could hold it for ever.
            chunk: bytes = response.raw.read1(size, decode_content=False)
        except (HTTPError, OSError) as e:
            raise self._broken(f"the connection broke after {self.received} bytes ({e})") from e
        return chunk

    def _open(self) -> requests.Response:
        """Ask for what is missing."""
        resuming = self.received > 0
        headers = {}
        if resuming and self._etag:
            headers = {"Range": f"bytes={self.received}-", "If-Range": self._etag}
        response = self._follow(headers)
        try:
            self._check_status(response)
            if not resuming:
                self._begin(response)
            elif response.status_code == 206:
                self._check_range(response)
            else:
                self._skip_known(response)
        except BaseException:
            response.close()
            raise
        if resuming:
            log.info(
                "Download from %s goes on at byte %d of %s.", self.host, self.received, self.total or "?"
            )
        return response

    def _follow(self, headers: dict[str, str]) -> requests.Response:
        """Send the request; redirects by hand, because a library would read their bodies whole."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            self._connections += 1
            self._guard.check_url(url)
            try:
                response = self._session.get(
                    url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
                )
            except (RequestsConnectionError, Timeout) as e:
                raise self._broken(f"there is no connection ({_innermost(e)})") from e
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
        if status in _PASSING:
            asked = response.headers.get("Retry-After", "")
            raise self._broken(f"it answers {status}", float(asked) if asked.isdigit() else 0.0)
        if status == 416 and self.received:
            raise self._changed(f"it has nothing after {self.received} bytes")
        if status not in (200, 206):
            raise DownloadError(f"Could not download from {self.host}: it answers {status}.")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise DownloadError(
                f"Could not download from {self.host}: it sends the file encoded ({encoding}) although asked not to."
            )

    def _begin(self, response: requests.Response) -> None:
        if response.status_code == 206:
            raise DownloadError(f"Could not download from {self.host}: it sends a part of the file unasked.")
        self.total = _content_length(response)
        if self.total is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
            raise DownloadError(
                f"Could not download from {self.host}: it does not say how long the file is (no Content-Length), so "
                "a cut file could not be told from a whole one."
            )
        if self.total is not None and self.total > self._guard.max_bytes:
            raise self._too_large(str(self.total))
        etag = response.headers.get("ETag", "")
        self._etag = etag if etag.startswith('"') else None

    def _check_range(self, response: requests.Response) -> None:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if told is None or int(told[1]) != self.received:
            raise DownloadError(
                f"Could not download from {self.host}: asked for bytes from {self.received} on, it sends "
                f"{response.headers.get('Content-Range', 'bytes that it does not number')!r}."
            )
        if self.total is not None and told[2] not in ("*", str(self.total)):
            raise self._changed(f"it has {told[2]} bytes")

    def _skip_known(self, response: requests.Response) -> None:
        """Read the file again up to where it broke off, and make sure that it is the same one."""
        length = _content_length(response)
        if self.total is not None and length != self.total:
            raise self._changed(f"it has {length} bytes")
        known, left = hashlib.sha256(), self.received
        while left:
            self._check_patience()
            chunk = self._read(response, min(CHUNK, left))
            if not chunk:
                raise self._broken(f"the connection broke before byte {self.received}")
            known.update(chunk)
            left -= len(chunk)
        if known.digest() != self._hash.digest():
            raise self._changed("it begins with other bytes")

    def _check_patience(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("The landing was given up.")
        if self._connections > MAX_CONNECTIONS or time.monotonic() > self._deadline:
            raise DownloadError(
                f"Could not download from {self.host}: only {self.received} of {self.total or '?'} bytes came within "
                f"{self._connections} connections and {MAX_SECONDS / 60:.0f} minutes at most."
            )

    def _broken(self, what: str, retry_after: float = 0.0) -> _BrokenOffError:
        self._close()
        return _BrokenOffError(f"Could not download from {self.host}: {what}.", min(retry_after, _MAX_PAUSE))

    def _changed(self, how: str) -> ContentChangedError:
        return ContentChangedError(
            f"The file at {self.host} broke off after {self.received} of {self.total or '?'} bytes and is now another "
            f"one: {how}."
        )

    def _too_large(self, size: str) -> DownloadRefusedError:
        self._close()
        return DownloadRefusedError(
            f"Refused to download from {self.host}: the file has {size} bytes, and at most "
            f"{self._guard.max_bytes} are accepted (max_bytes of the DownloadGuard)."
        )

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, _BrokenOffError) else 0.0
        grown = wait_random_exponential(multiplier=self._first_pause, max=10)(state)
        return max(asked, grown)

    def _hand_back(self) -> None:
        """Keep the connection for the next stem: it goes back to the pool once its end has been read."""
        if self._response is not None:
            self._response.raw.drain_conn()
        self._close()

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _content_length(response: requests.Response) -> int | None:
    told = response.headers.get("Content-Length", "").strip()
    return int(told) if told.isdigit() else None


def _innermost(error: BaseException) -> BaseException:
    """Return what an error of requests is about; its own text holds the link, which may be a secret."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
