"""A step for many items, in threads."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

#: Objects that are read at the same time: small ones mostly wait for the network.
THREADS = 16


def in_parallel(
    step: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int = THREADS,
    stop: threading.Event | None = None,
) -> Iterator[R]:
    """
    Call a function for many items in threads, and yield the results as they come.

    :param items: Taken as threads come free, so that a million of them need no more memory than a few.
    :param threads: How many at a time.
    :param stop: Set when the caller stops early, so that long steps can end.
    """
    pool = ThreadPoolExecutor(threads)
    remaining = iter(items)
    try:
        pending = {pool.submit(step, item) for item in islice(remaining, 2 * threads)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(step, item) for item in islice(remaining, len(done))}
            for future in done:
                yield future.result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
