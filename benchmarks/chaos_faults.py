"""Everything that can be broken about the distributed stack while it works, by name, and how it is mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil
import requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.bed.distributed import Distributed

    Mend: TypeAlias = "Callable[[], object] | None"

SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
INTERNAL = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


class NothingToBreak(Exception):
    """What was to be broken is not there now."""


@dataclass(frozen=True)
class Fault:
    """
    A way to break the stack.

    :param kind: Its name in the report.
    :param weight: How often, beside the others.
    :param strike: Breaks it; what it returns mends it, after a while.
    """

    kind: str
    weight: int
    strike: Callable[[Distributed, Random], Mend]


def killed(service: str) -> Callable[[Distributed, Random], Mend]:
    """Kill an instance of a service with all its children; it is started again after a while."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        instance = bed.stack.instances[chance.choice(bed.stack.names(service))]
        if not instance.running:
            raise NothingToBreak
        instance.kill()
        return instance.start

    return strike


def task_killed(bed: Distributed, chance: Random) -> Mend:
    """Kill one process in which a worker runs a task, and nothing else of the worker."""
    instance = bed.stack.instances[chance.choice(bed.stack.names("worker"))]
    if not instance.running:
        raise NothingToBreak
    try:
        # Airflow names the processes that run tasks, and their supervisors, which are Celery's places.
        family = psutil.Process(instance.process.pid).children(recursive=True)
        tasks = [
            process for process in family if " ".join(process.cmdline()).startswith("airflow worker -- ")
        ]
        if not tasks:
            raise NothingToBreak
        chance.choice(tasks).kill()
    except psutil.NoSuchProcess:
        raise NothingToBreak from None
    return None


def cut(name: str) -> Callable[[Distributed, Random], Mend]:
    """Cut a network: nothing passes, nobody is told."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        bed.stack.proxies[name].cut()
        return bed.stack.proxies[name].heal

    return strike


def refused(name: str) -> Callable[[Distributed, Random], Mend]:
    """Have a server reset all connections and refuse new ones."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        bed.stack.proxies[name].refuse()
        return bed.stack.proxies[name].heal

    return strike


def slowed(name: str) -> Callable[[Distributed, Random], Mend]:
    """Hold back everything that passes."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        bed.stack.proxies[name].delay(chance.uniform(0.2, 2))
        return bed.stack.proxies[name].heal

    return strike


def reset(name: str, direction: Any, most: int) -> Callable[[Distributed, Random], Mend]:
    """Reset the connections that there are, and the next ones after some bytes of one direction."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        proxy = bed.stack.proxies[name]
        proxy.reset_next(after=chance.randint(0, most), direction=direction, times=chance.randint(1, 4))
        proxy.reset_all()
        return None

    return strike


def answered(name: str, status: str, body: str, *methods: str) -> Callable[[Distributed, Random], Mend]:
    """Answer some requests in the server's place."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        method = chance.choice(methods)
        bed.stack.proxies[name].answer_next(status, body, method=method, times=chance.randint(1, 8))
        return None

    return strike


def vendor(place: str, kind: str, most: int = 3, **settings: Any) -> Callable[[Distributed, Random], Mend]:
    """Have the vendor misbehave a few times."""

    def strike(bed: Distributed, chance: Random) -> Mend:
        bed.quick_sandbox.set_fault(place, kind, times=chance.randint(1, most), **settings)
        return None

    return strike


def made_up_callback(bed: Distributed, chance: Random) -> Mend:
    """Send the receiver what only the vendor may send."""
    token = f"v1.{chance.randbytes(24).hex()}.{chance.randbytes(16).hex()}"
    body = {"code": 200, "msg": "success", "data": {"task_id": chance.randbytes(16).hex()}}
    try:
        answer = requests.post(
            f"{bed.stack.url('receiver')}/vocalsep/callback/{token}", json=body, timeout=10
        )
    except requests.RequestException:
        raise NothingToBreak from None
    if answer.ok:
        raise AssertionError(f"A made up callback was accepted: {answer.status_code} {answer.text}")
    return None


FAULTS = [
    Fault("kill_task", 12, task_killed),
    Fault("kill_worker", 4, killed("worker")),
    Fault("kill_triggerer", 4, killed("triggerer")),
    Fault("kill_scheduler", 2, killed("scheduler")),
    Fault("kill_api_server", 3, killed("api-server")),
    Fault("kill_database", 1, killed("postgres")),
    Fault("kill_redis", 2, killed("redis")),
    Fault("cut_worker_vendor", 3, cut("quick-sandbox")),
    Fault("refuse_worker_vendor", 3, refused("quick-sandbox")),
    Fault("slow_worker_vendor", 2, slowed("quick-sandbox")),
    Fault("reset_worker_vendor", 4, reset("quick-sandbox", "to_client", 3000)),
    Fault("cut_worker_s3", 3, cut("s3")),
    Fault("refuse_worker_s3", 3, refused("s3")),
    Fault("reset_upload", 4, reset("s3", "to_server", 20_000)),
    Fault("lost_s3_answer", 4, reset("s3", "to_client", 0)),
    Fault("s3_slow_down", 4, answered("s3", "503 Slow Down", SLOW_DOWN, "PUT", "GET", "HEAD")),
    Fault("s3_error", 4, answered("s3", "500 Internal Server Error", INTERNAL, "PUT", "GET", "HEAD")),
    Fault("cut_vendor_receiver", 3, cut("receiver")),
    Fault("refuse_vendor_receiver", 3, refused("receiver")),
    Fault("submit_accepted_then_lost", 5, vendor("submit", "accept_then_drop")),
    Fault("submit_html", 3, vendor("submit", "html")),
    Fault("submit_truncated", 3, vendor("submit", "truncated")),
    Fault("submit_http_429", 3, vendor("submit", "http_429", seconds=2)),
    Fault("submit_405", 2, vendor("submit", "code", code=405, message="too fast")),
    Fault("submit_430", 3, vendor("submit", "code", code=430, message="too fast")),
    Fault("submit_455", 2, vendor("submit", "code", code=455, message="maintenance")),
    Fault("submit_500", 3, vendor("submit", "code", code=500, message="server error")),
    Fault("read_html", 3, vendor("read", "html", 10)),
    Fault("read_truncated", 3, vendor("read", "truncated", 10)),
    Fault("read_slow", 2, vendor("read", "slow", seconds=5)),
    Fault("read_null", 3, vendor("read", "null", 10)),
    Fault("read_no_urls", 3, vendor("read", "no_urls", 5)),
    Fault("task_fails_500", 3, vendor("task", "fail", code=500, message="server error")),
    Fault("task_fails_451", 2, vendor("task", "fail", 1, code=451, message="cannot fetch")),
    Fault("task_fails_531", 3, vendor("task", "fail", code=531, message="failed, refunded")),
    Fault("task_stuck", 1, vendor("task", "stuck", 1)),
    Fault("task_callback_exception", 3, vendor("task", "callback_exception")),
    Fault("callback_missing", 4, vendor("callback", "none")),
    Fault("callback_twice", 4, vendor("callback", "duplicate")),
    Fault("callback_early", 3, vendor("callback", "early")),
    Fault("callback_late", 3, vendor("callback", "late", seconds=10)),
    Fault("callback_lies", 3, vendor("callback", "forged")),
    Fault("callback_made_up", 3, made_up_callback),
    Fault("download_html", 3, vendor("download", "html")),
    Fault("download_empty", 2, vendor("download", "empty")),
    Fault("download_short", 3, vendor("download", "short")),
    Fault("download_dropped", 4, vendor("download", "drop", after=500)),
    Fault("download_replaced", 3, vendor("download", "corrupt", after=500)),
    Fault("download_expired", 3, vendor("download", "expired")),
    Fault("download_redirect", 2, vendor("download", "redirect", to="http://169.254.169.254/latest")),
]
