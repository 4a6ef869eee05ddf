"""Sending one stem to the bucket: in one piece when it is small, in parts of constant memory when it is not."""

from __future__ import annotations

import base64
import hashlib
import logging
import mmap
import os
from collections import deque
from concurrent.futures import wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_vocalsep.landing.storage import s3_errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor, Future
    from typing import IO

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = logging.getLogger(__name__)

#: Bytes of a part, and the size up to which a stem is sent in one piece. S3 takes parts from 5 MiB on and at most
#: 10,000 of them.
PART_SIZE = 8 * 1024 * 1024

#: Parts that one lander has in memory at a time: 64 MiB, however many stems it moves.
MAX_PARTS = 8

#: Bytes that are handed to the connection at a time.
_PIECE = 1024 * 1024

#: Parts of one stem that are under way to the bucket at a time, while the next one is filled.
_UNDER_WAY = 3


class PartBuffer:
    """
    Some bytes on their way from a download to the bucket.

    The room for them is a memory map, so that it goes back to the system at once and in full, whatever the
    allocator would have kept of it.

    :param permits: How many parts there may be at a time, of everything that one lander moves. One is taken, and
        waited for, here.
    """

    def __init__(self, permits: threading.Semaphore) -> None:
        permits.acquire()
        self._permits: threading.Semaphore | None = permits
        self._room: mmap.mmap | None = None
        self.bytes = memoryview(b"")

    def __enter__(self) -> PartBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def fill(self, read_into: Callable[[mmap.mmap, int], int]) -> None:
        """
        Take the next bytes of a download.

        :param read_into: Fills a buffer with as many bytes as asked for, or with all that are left.
        """
        self._room = mmap.mmap(-1, PART_SIZE)
        size = read_into(self._room, PART_SIZE)
        self.bytes = memoryview(self._room)[:size]

    def release(self) -> None:
        """Let go of the bytes. Doing it again does nothing."""
        if self._permits is None:
            return
        self.bytes.release()
        if self._room is not None:
            # A failed request's traceback may still hold a piece: then the room goes when the error does.
            with suppress(BufferError):
                self._room.close()
            self._room = None
        permits, self._permits = self._permits, None
        permits.release()


class UncopiedBody:
    """
    Bytes as a file that is read in large pieces which are not copied.

    botocore would read a large file a megabyte at a time into memory of its own, boto3 takes no memory view, and
    http.client asks a file for 16 KiB at a time, which costs tens of thousands of rounds for the interpreter's lock. All
    that these three want of a file is here.
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
        """Return all that is left, or else the next piece, however small the one that is asked for; nothing only at the end."""
        rest = self._content[self._position :]
        piece = bytes(rest) if size < 0 else rest[:_PIECE]
        self._position += len(piece)
        return piece


def _as_file(content: memoryview) -> IO[bytes]:
    return cast("IO[bytes]", UncopiedBody(content))


def put_object(
    client: S3Client, bucket: str, key: str, body: memoryview, sha256: str, extra: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """
    Send an object in one piece. The store refuses it unless it received exactly these bytes.

    :param sha256: SHA-256 of the body, hex.
    :param extra: Further arguments.
    :return: Its ETag without quotes, and the checksum that the store keeps, if it keeps one.
    """
    with s3_errors(bucket, key, "write"):
        answer = client.put_object(
            Bucket=bucket, Key=key, Body=_as_file(body), ChecksumSHA256=base64_of(sha256), **extra
        )
    return answer.get("ETag", "").strip('"') or None, answer.get("ChecksumSHA256")


class MultipartUpload:
    """
    An object sent in parts; it appears whole or not at all.

    Some parts are under way while the next one is filled. Leaving the block without :meth:`complete` removes what
    was sent.

    :param client: A boto3 S3 client.
    :param executor: Sends the parts.
    :param extra: Further arguments of the object.
    """

    def __init__(
        self,
        client: S3Client,
        executor: Executor,
        *,
        bucket: str,
        key: str,
        extra: Mapping[str, Any],
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.key = key
        self._executor = executor
        self._extra = extra
        self._upload_id: str | None = None
        self._under_way: deque[Future[CompletedPartTypeDef]] = deque()
        self._parts: list[CompletedPartTypeDef] = []
        self._sent = 0

    def __enter__(self) -> MultipartUpload:
        with s3_errors(self.bucket, self.key, "write"):
            answer = self.client.create_multipart_upload(
                Bucket=self.bucket, Key=self.key, ChecksumAlgorithm="SHA256", **self._extra
            )
        self._upload_id = answer["UploadId"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._upload_id is None:
            return
        wait(self._under_way)  # a part that arrives after the abort would stay
        abort_upload(self.client, self.bucket, self.key, self._upload_id)

    def send(self, part: PartBuffer) -> None:
        """
        Send a part, once there are not too many under way.

        :param part: Its bytes, none at the end of a file whose length was not announced; released when they have arrived, and when they have not.
        """
        if not part.bytes:
            part.release()
            return
        try:
            while len(self._under_way) >= _UNDER_WAY:
                self._collect()
            self._sent += 1
            self._under_way.append(self._executor.submit(self._send, part, self._sent))
        except BaseException:
            part.release()
            raise

    def complete(self) -> tuple[str | None, str | None]:
        """
        Put the parts together.

        :return: The object's ETag without quotes, and the checksum of checksums that the store keeps.
        :raises StorageError: the store did not put together what was sent.
        """
        while self._under_way:
            self._collect()
        assert self._upload_id is not None  # noqa: S101 - inside the block there is one
        with s3_errors(self.bucket, self.key, "write"):
            answer = self.client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        self._upload_id = None
        return answer.get("ETag", "").strip('"') or None, answer.get("ChecksumSHA256")

    def _send(self, part: PartBuffer, number: int) -> CompletedPartTypeDef:
        with part, s3_errors(self.bucket, self.key, "write"):
            checksum = base64_of(hashlib.sha256(part.bytes).hexdigest())
            answer = self.client.upload_part(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self._upload_id or "",
                PartNumber=number,
                Body=_as_file(part.bytes),
                ChecksumSHA256=checksum,
            )
        return {"ETag": answer["ETag"], "PartNumber": number, "ChecksumSHA256": checksum}

    def _collect(self) -> None:
        """Wait for the oldest part that is under way."""
        self._parts.append(self._under_way.popleft().result())


def abort_upload(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    """Remove the parts of an unfinished upload, as far as this is allowed."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except Exception as e:
        log.warning(
            "Could not remove an unfinished upload of s3://%s/%s (%s). A lifecycle rule that aborts incomplete "
            "multipart uploads removes it.",
            bucket,
            key,
            e,
        )


def base64_of(digest: str) -> str:
    """Write a hex digest as S3 does."""
    return base64.b64encode(bytes.fromhex(digest)).decode()
