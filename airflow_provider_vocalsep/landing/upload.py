"""Sending one stem to the bucket in parts, with a constant amount of memory and without copies."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import deque
from concurrent.futures import wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor, Future
    from typing import IO

    from airflow_provider_vocalsep.storage.objects import ObjectTag
    from airflow_provider_vocalsep.storage.store import ObjectStore

#: Bytes of a part, and the size up to which a stem is sent in one piece. S3 accepts parts from 5 MiB on, at
#: most 10,000 of them.
PART_SIZE = 8 * 1024 * 1024

#: Parts that one lander holds in memory at a time: 64 MiB, however many stems it lands.
MAX_PARTS = 8

#: Bytes that are handed to the connection at a time.
_PIECE = 1024 * 1024

#: Parts of one stem that are sent at the same time, while the next one is filled.
_PARTS_IN_FLIGHT = 3


class PartBuffer:
    """
    The bytes of one part, between download and upload.

    They are in a memory map, so that all of the memory returns to the system at once, and the allocator keeps
    none.

    :param permits: Limits the parts in memory, over all stems of one lander. The constructor waits for a
        permit;
        :meth:`release` returns it.
    """

    def __init__(self, permits: threading.Semaphore) -> None:
        permits.acquire()
        self._permits: threading.Semaphore | None = permits
        self._memory: mmap.mmap | None = None
        self.bytes = memoryview(b"")

    def __enter__(self) -> PartBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def fill(self, read_into: Callable[[mmap.mmap, int], int]) -> None:
        """
        Fill the part with the next bytes of a download.

        :param read_into: Fills a buffer up to a size, or with all remaining bytes, and returns their number.
        """
        self._memory = mmap.mmap(-1, PART_SIZE)
        size = read_into(self._memory, PART_SIZE)
        self.bytes = memoryview(self._memory)[:size]

    def release(self) -> None:
        """Free the memory and return the permit. A second call does nothing."""
        if self._permits is None:
            return
        self.bytes.release()
        if self._memory is not None:
            # The traceback of a failed request may still refer to a piece: then the memory is freed with the
            # error.
            with suppress(BufferError):
                self._memory.close()
            self._memory = None
        permits, self._permits = self._permits, None
        permits.release()


class UncopiedBody:
    """
    Bytes as a file that returns large pieces without copying them.

    The S3 client would copy a large file in blocks of a megabyte, it accepts no memory view, and http.client
    reads a file in blocks of 16 KiB, which takes the interpreter's lock tens of thousands of times. This
    class has all the methods of a file that they call.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._content)}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> memoryview | bytes:
        """Return all remaining bytes, or for any ``size`` the next large piece; no bytes only at the end."""
        rest = self._content[self._position :]
        piece = bytes(rest) if size < 0 else rest[:_PIECE]
        self._position += len(piece)
        return piece


def uncopied_body(content: memoryview) -> IO[bytes]:
    """Return bytes as the body of a request, see :class:`UncopiedBody`."""
    return cast("IO[bytes]", UncopiedBody(content))


class MultipartUpload:
    """
    An object that is sent in parts; it appears whole or not at all.

    Some parts are sent while the next one is filled. Leaving the block without :meth:`complete` removes the
    parts.

    :param executor: Runs the requests that send parts.
    :param stem: Metadata of the stem.
    """

    def __init__(
        self,
        store: ObjectStore,
        executor: Executor,
        bucket: str,
        key: str,
        *,
        content_type: str,
        stem: Mapping[str, str],
    ) -> None:
        self.store = store
        self.bucket = bucket
        self.key = key
        self._executor = executor
        self._content_type = content_type
        self._stem = stem
        self._upload_id: str | None = None
        self._in_flight: deque[Future[dict[str, Any]]] = deque()
        self._parts: list[dict[str, Any]] = []
        self._sent = 0

    def __enter__(self) -> MultipartUpload:
        self._upload_id = self.store.begin_upload(
            self.bucket, self.key, content_type=self._content_type, stem=self._stem
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._upload_id is None:
            return
        wait(self._in_flight)  # a part that arrives after the abort would stay
        self.store.abort_upload(self.bucket, self.key, self._upload_id)

    def send(self, part: PartBuffer) -> None:
        """
        Send a part as soon as fewer than three are in flight.

        :param part: The part, released after its request. It is empty if a download without Content-Length
            ended with the part before.
        """
        if not part.bytes:
            part.release()
            return
        try:
            while len(self._in_flight) >= _PARTS_IN_FLIGHT:
                self._wait_for_oldest_part()
            self._sent += 1
            self._in_flight.append(self._executor.submit(self._send, part, self._sent))
        except BaseException:
            part.release()
            raise

    def complete(self) -> ObjectTag:
        """
        Make the object from its parts.

        :raises StorageError: a part was not sent, or the store did not make the object.
        """
        while self._in_flight:
            self._wait_for_oldest_part()
        assert self._upload_id is not None  # noqa: S101 - set by __enter__
        tag = self.store.complete_upload(self.bucket, self.key, self._upload_id, self._parts)
        self._upload_id = None
        return tag

    def _send(self, part: PartBuffer, number: int) -> dict[str, Any]:
        with part:
            digest = hashlib.sha256(part.bytes).hexdigest()
            body = uncopied_body(part.bytes)
            return self.store.send_part(self.bucket, self.key, self._upload_id or "", number, body, digest)

    def _wait_for_oldest_part(self) -> None:
        self._parts.append(self._in_flight.popleft().result())
