"""The room of a part, and its bytes as the HTTP library sees them."""

from __future__ import annotations

import threading

from airflow_provider_vocalsep.landing.upload import PartBuffer, _as_file


def filled(permits, content):
    part = PartBuffer(permits)

    def read_into(room, _):
        room[: len(content)] = content
        return len(content)

    part.fill(read_into)
    return part


def test_a_piece_that_outlives_its_part_keeps_no_permit():
    permits = threading.Semaphore(1)
    part = filled(permits, b"abc")
    piece = _as_file(part.bytes).read(1)
    part.release()
    part.release()

    assert permits.acquire(blocking=False)
    assert not permits.acquire(blocking=False), "released twice"
    assert bytes(piece) == b"abc", "as an error's traceback may still hold it"


def test_bytes_are_read_again_after_a_failed_try():
    part = filled(threading.Semaphore(1), bytes(range(256)) * 8192)
    body = _as_file(part.bytes)
    first = [bytes(piece) for piece in iter(lambda: body.read(16384), b"")]
    body.seek(0)

    assert [len(piece) for piece in first] == [1 << 20, 1 << 20]
    assert body.read() == b"".join(first) == bytes(part.bytes)
    assert (body.tell(), body.read(16384)) == (2 << 20, b"")
