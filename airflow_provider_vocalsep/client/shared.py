"""
One asynchronous client per connection and event loop.

Resolving a connection inside a triggerer occupies the loop that serves every trigger of that host
(``airflow.jobs.triggerer_job_runner``), so hundreds of waiting tracks share one resolved connection and its
sockets.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_vocalsep.client.asynchronous import AsyncVendorClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_vocalsep.client.settings import AccountSettings

#: Seconds after which a connection is resolved again, so that a rotated key takes effect without a restart.
RESOLVED_FOR = 300.0

#: Seconds for which it is not resolved again, however many reads the vendor refuses.
MIN_RESOLVED_FOR = 10.0


@dataclass
class _Slot:
    lock: asyncio.Lock
    client: AsyncVendorClient | None = None
    resolved_at: float = 0.0


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Slot]] = WeakKeyDictionary()


async def shared_client(conn_id: str, resolve: Callable[[], Awaitable[AccountSettings]]) -> AsyncVendorClient:
    """
    Return the client of a connection on the running event loop.

    :param resolve: Resolves the connection; called at most once in five minutes.
    """
    slots = _slots.setdefault(asyncio.get_running_loop(), {})
    slot = slots.setdefault(conn_id, _Slot(asyncio.Lock()))
    async with slot.lock:
        if slot.client is None or time.monotonic() - slot.resolved_at > RESOLVED_FOR:
            settings = await resolve()
            if slot.client is None or slot.client.settings != settings:
                # The previous client stays open: other triggers may be reading with it.
                slot.client = AsyncVendorClient(settings)
            slot.resolved_at = time.monotonic()
        return slot.client


def expire_client(conn_id: str) -> None:
    """Resolve a connection again before its next read, because the vendor refused its key."""
    slot = _slots.get(asyncio.get_running_loop(), {}).get(conn_id)
    if slot is not None and time.monotonic() - slot.resolved_at > MIN_RESOLVED_FOR:
        slot.resolved_at = float("-inf")


async def close_shared_clients() -> None:
    """Close every client of the running event loop. For tests: a triggerer's end closes its sockets."""
    for slot in _slots.pop(asyncio.get_running_loop(), {}).values():
        if slot.client is not None:
            await slot.client.close()
