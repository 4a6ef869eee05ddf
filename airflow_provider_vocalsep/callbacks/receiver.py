"""
``POST /vocalsep/callback/{token}``: the only endpoint of the provider that the public may reach.

Answers within milliseconds even if bucket or vendor are down, as it uses nothing but Airflow's own database.
The answer reveals nothing but whether the delivery was accepted.
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
    MAX_AGE_FOR_UNVERIFIED,
    NotCachedError,
    cached_account,
    read_account,
)
from airflow_provider_vocalsep.callbacks.verification import (
    MAX_BODY,
    RejectedError,
    verify_body,
    verify_token,
)

# Core's Stats: the API server does not configure the task SDK's.
try:
    from airflow.observability.stats import Stats
except ImportError:  # Airflow before 3.2
    from airflow.stats import Stats  # type: ignore[assignment]

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_vocalsep.callbacks.verification import Delivery

log = logging.getLogger(__name__)

#: Seconds for a body to arrive. Vendors give up after 15.
_BODY_TIMEOUT = 10.0

#: What a database raises that is down, locked or overloaded.
_DATABASE_ERRORS = (OperationalError, InterfaceError)

#: Tries of a transaction (SQLite has one writer, PostgreSQL may break a deadlock) before the answer is 503.
_DATABASE_TRIES = 6

#: Seconds between further tries to resume a task that was still running, or was deferred only just before its
#: callback came. If none succeeds, the trigger's own reads end the wait.
_RESUME_DELAYS = (0.5, 0.5, 1, 1, 2, 2, 2, 4, 4, 8, 8, 16)

#: Inboxes whose task instance is tried again at the same time.
_MAX_RESUMING = 500

#: Deliveries that are written at the same time; the others queue. More threads would only wait for each
#: other, and take threads from Airflow's own requests.
_WRITERS = anyio.CapacityLimiter(2)

_read_fresh_account = partial(read_account, max_age=MAX_AGE_FOR_UNVERIFIED)

#: Tasks that try to resume, one for each inbox: a batch gets hundreds of callbacks while it submits.
_resuming: dict[tuple[str, str, str, int, str], asyncio.Task[None]] = {}


async def receive_callback(request: Request) -> JSONResponse:
    """Accept one delivery."""
    try:
        delivery = await _verify(request)
        effect, again = await to_thread.run_sync(_deliver, delivery, limiter=_WRITERS)
    except RejectedError as e:
        log.warning("Refused a callback from %s with %d: %s", _peer(request), e.status, e.reason)
        Stats.incr("vocalsep.callback.rejected")
        return JSONResponse({"status": "refused"}, status_code=e.status)
    except _DATABASE_ERRORS as e:
        log.warning("Could not store a callback; asked the vendor to repeat it: %s", type(e).__name__)
        Stats.incr("vocalsep.callback.unavailable")
        return JSONResponse({"status": "try again"}, status_code=503, headers={"Retry-After": "5"})
    claims = delivery.claims
    Stats.incr(f"vocalsep.callback.{effect.value}", tags={"dag_id": claims.dag_id, "task_id": claims.task_id})
    if again and claims.inbox not in _resuming and len(_resuming) < _MAX_RESUMING:
        _resuming[claims.inbox] = asyncio.create_task(_retry_resume(delivery))
        _resuming[claims.inbox].add_done_callback(lambda _: _resuming.pop(claims.inbox))
    return JSONResponse({"status": "received"})


async def _verify(request: Request) -> Delivery:
    now = time.time()
    token = request.path_params["token"]
    try:
        claims, account = verify_token(token, cached_account, now=now)
    except NotCachedError:
        claims, account = await run_in_threadpool(verify_token, token, read_account, now=now)
    except RejectedError:
        claims, account = await run_in_threadpool(verify_token, token, _read_fresh_account, now=now)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RejectedError(415, "the body is not application/json")
    body = await _read_body(request)
    return verify_body(body, request.headers, claims, account, now=now)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        with anyio.fail_after(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RejectedError(413, f"the body is larger than {MAX_BODY} bytes")
    except TimeoutError as e:
        raise RejectedError(408, "the body did not arrive") from e
    except ClientDisconnect as e:
        raise RejectedError(400, "the sender disconnected") from e
    return bytes(body)


def _deliver(delivery: Delivery) -> tuple[resume.Effect, bool]:
    return _database_retries()(resume.deliver, delivery)


def _resume_later(delivery: Delivery) -> bool:
    return _database_retries()(resume.resume_later, delivery)


def _database_retries() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_DATABASE_ERRORS),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        stop=stop_after_attempt(_DATABASE_TRIES),
        reraise=True,
    )


async def _retry_resume(delivery: Delivery) -> None:
    for seconds in _RESUME_DELAYS:
        await asyncio.sleep(seconds)
        try:
            if not await to_thread.run_sync(_resume_later, delivery, limiter=_WRITERS):
                return
        except Exception:
            log.warning("Could not resume a task after its callback; its trigger will.", exc_info=True)


def _peer(request: Request) -> str:
    return request.client.host if request.client else "?"


app = Starlette(routes=[Route("/callback/{token}", receive_callback, methods=["POST"])])
app.router.redirect_slashes = False
