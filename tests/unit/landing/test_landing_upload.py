from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.landing.upload import PartBuffer, UncopiedBody

if TYPE_CHECKING:
    import mmap


def filled_part(permits: threading.Semaphore, content: bytes) -> PartBuffer:
    part = PartBuffer(permits)

    def read_into(memory: mmap.mmap, _: int) -> int:
        memory[: len(content)] = content
        return len(content)

    part.fill(read_into)
    return part


class TestPartBuffer:
    def test_release_returns_its_permit_once_though_a_piece_is_still_referred_to(self) -> None:
        permits = threading.Semaphore(1)
        part = filled_part(permits, b"abc")
        piece = UncopiedBody(part.bytes).read(1)

        part.release()
        part.release()

        assert permits.acquire(blocking=False)
        assert not permits.acquire(blocking=False), "released twice"
        assert bytes(piece) == b"abc", "the traceback of an error may still refer to it"


class TestUncopiedBody:
    def test_body_is_read_again_after_a_failed_request(self) -> None:
        part = filled_part(threading.Semaphore(1), bytes(range(256)) * 8192)
        body = UncopiedBody(part.bytes)

        first = [bytes(piece) for piece in iter(lambda: body.read(16384), b"")]
        body.seek(0)

        assert [len(piece) for piece in first] == [1 << 20, 1 << 20]
        assert body.read() == b"".join(first) == bytes(part.bytes)
        assert (body.tell(), body.read(16384)) == (2 << 20, b"")
