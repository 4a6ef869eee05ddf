"""
``POST /vocalsep/callback/{token}``: the only thing of ours that the public may reach.

Answers within milliseconds whatever bucket and vendor do: nothing but Airflow's own database is touched. The answer
never says more than whether the delivery was taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_vocalsep.callbacks import resume
from airflow_provider_vocalsep.callbacks.connection_cache import (
    KEPT_FOR_STRANGERS,
    NotKeptError,
    callback_account,
    kept_account,
)
from airflow_provider_vocalsep.callbacks.verification import MAX_BODY, RejectedError, check_body, check_token

# Core's and not the task SDK's: the API server sets up the former, and what the latter is told there goes nowhere.
try:
    from airflow.observability.stats import Stats
except ImportError:  # Airflow before 3.2
    from airflow.stats import Stats  # type: ignore[assignment]

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_vocalsep.callbacks.verification import Delivery

log = logging.getLogger(__name__)

#: Seconds for a body to arrive. Vendors give up after 15.
_BODY_PATIENCE = 10.0

#: What a database that is away, locked or overrun raises.
_DATABASE_AWAY = (OperationalError, InterfaceError)

#: Tries at a locked database (SQLite has one writer, PostgreSQL may break a deadlock) before the vendor is asked to come again.
_DATABASE_TRIES = 6

#: Seconds between further looks for a task that was still running, or just being parked, when its callback came. What
#: they do not find, the trigger's own reads do.
_LOOK_AGAIN = (0.5, 0.5, 1, 1, 2, 2, 2, 4, 4, 8, 8, 16)

#: Callbacks looked after at once.
_MAX_LOOKING = 500

#: Deliveries that are written at the same time; the others wait their turn, in order. More threads than this only wait for
#: each other, and Airflow's own requests need some, too.
_WRITERS = anyio.CapacityLimiter(2)

#: Finds the account of a connection as it is by now.
_ACCOUNT_NOW = partial(callback_account, kept_for=KEPT_FOR_STRANGERS)

#: The lookers, one for each memory: a batch has hundreds of callbacks while it submits.
_looking: dict[tuple[str, str, str, int, str], asyncio.Task[None]] = {}


async def receive_callback(request: Request) -> JSONResponse:
    """Take one delivery."""
    try:
        delivery = await _believed(request)
        effect, soon = await to_thread.run_sync(_with_patience, delivery, limiter=_WRITERS)
    except RejectedError as e:
        log.warning("Refused a callback from %s with %d: %s", _peer(request), e.status, e.reason)
        Stats.incr("vocalsep.callback.rejected")
        return JSONResponse({"status": "refused"}, status_code=e.status)
    except _DATABASE_AWAY as e:
        log.warning("A callback could not be kept, the vendor is asked to come again: %s", type(e).__name__)
        Stats.incr("vocalsep.callback.unavailable")
        return JSONResponse({"status": "try again"}, status_code=503, headers={"Retry-After": "5"})
    claims = delivery.claims
    tags = {"dag_id": claims.dag_id, "task_id": claims.task_id}
    Stats.incr(f"vocalsep.callback.{effect.value}", tags=tags)
    memory = claims.memory
    if soon and memory not in _looking and len(_looking) < _MAX_LOOKING:
        looker = asyncio.create_task(_look_again(delivery))
        _looking[memory] = looker
        looker.add_done_callback(lambda _: _looking.pop(memory))
    return JSONResponse({"status": "received"})


async def _believed(request: Request) -> Delivery:
    now = time.time()
    token = request.path_params["token"]
    try:
        claims, account = check_token(token, kept_account, now=now)
    except NotKeptError:
        claims, account = await run_in_threadpool(check_token, token, callback_account, now=now)
    except RejectedError:
        claims, account = await run_in_threadpool(check_token, token, _ACCOUNT_NOW, now=now)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RejectedError(415, "the body is not application/json")
    body = await _read(request)
    return check_body(body, request.headers, claims, account, now=now)


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        with anyio.fail_after(_BODY_PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RejectedError(413, f"the body is larger than {MAX_BODY} bytes")
    except TimeoutError as e:
        raise RejectedError(408, "the body did not arrive") from e
    except ClientDisconnect as e:
        raise RejectedError(400, "the sender went away") from e
    return bytes(body)


def _with_patience(delivery: Delivery) -> tuple[resume.Effect, bool]:
    return _database_patience()(resume.deliver, delivery)


def _database_patience() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_DATABASE_AWAY),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        stop=stop_after_attempt(_DATABASE_TRIES),
        reraise=True,
    )


async def _look_again(delivery: Delivery) -> None:
    for seconds in _LOOK_AGAIN:
        await asyncio.sleep(seconds)
        try:
            if not await to_thread.run_sync(_look, delivery, limiter=_WRITERS):
                return
        except Exception:
            log.warning("Could not look again for who waits for a callback; its trigger will.", exc_info=True)


def _look(delivery: Delivery) -> bool:
    return _database_patience()(resume.resume_later, delivery)


def _peer(request: Request) -> str:
    return request.client.host if request.client else "?"


app = Starlette(routes=[Route("/callback/{token}", receive_callback, methods=["POST"])])
app.router.redirect_slashes = False
