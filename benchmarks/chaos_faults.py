"""The faults that ``chaos.py`` injects into the distributed stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil
import requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.bed.distributed import Distributed

    Heal: TypeAlias = "Callable[[], object] | None"
    Inject: TypeAlias = "Callable[[Distributed, Random], Heal]"

SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
INTERNAL = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


class NoTargetError(Exception):
    """The target of the fault does not run now."""


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    :param kind: Its name in the report.
    :param weight: Its frequency relative to the other faults.
    :param inject: Injects the fault, and returns a function that heals it, or ``None`` if it heals by itself.
    """

    kind: str
    weight: int
    inject: Inject


def kill_instance(service: str) -> Inject:
    """Kill an instance of a service and its children; healing starts it again."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        instance = bed.stack.instances[chance.choice(bed.stack.names(service))]
        if not instance.running:
            raise NoTargetError
        instance.kill()
        return instance.start

    return inject


def kill_task(bed: Distributed, chance: Random) -> Heal:
    """Kill the process in which a worker runs a task, but not the worker."""
    instance = bed.stack.instances[chance.choice(bed.stack.names("worker"))]
    if not instance.running:
        raise NoTargetError
    try:
        # Airflow sets the command line of the processes that run tasks.
        children = psutil.Process(instance.process.pid).children(recursive=True)
        tasks = [
            process for process in children if " ".join(process.cmdline()).startswith("airflow worker -- ")
        ]
        if not tasks:
            raise NoTargetError
        chance.choice(tasks).kill()
    except psutil.NoSuchProcess:
        raise NoTargetError from None
    return None


def cut_network(name: str) -> Inject:
    """Forward nothing to a service, without an error."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        bed.stack.proxies[name].cut()
        return bed.stack.proxies[name].heal

    return inject


def refuse_connections(name: str) -> Inject:
    """Reset all connections to a service, and refuse new ones."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        bed.stack.proxies[name].refuse()
        return bed.stack.proxies[name].heal

    return inject


def delay_network(name: str) -> Inject:
    """Delay all data to and from a service."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        bed.stack.proxies[name].delay(chance.uniform(0.2, 2))
        return bed.stack.proxies[name].heal

    return inject


def reset_connections(name: str, direction: Any, most: int) -> Inject:
    """Reset all current connections to a service, and the next ones after some bytes of one direction."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        proxy = bed.stack.proxies[name]
        proxy.reset_next(after=chance.randint(0, most), direction=direction, times=chance.randint(1, 4))
        proxy.reset_all()
        return None

    return inject


def replace_answers(name: str, status: str, body: str, *methods: str) -> Inject:
    """Answer some requests instead of the server."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        method = chance.choice(methods)
        bed.stack.proxies[name].answer_next(status, body, method=method, times=chance.randint(1, 8))
        return None

    return inject


def vendor_fault(place: str, kind: str, most: int = 3, **settings: Any) -> Inject:
    """Add a fault to the vendor, which occurs a few times."""

    def inject(bed: Distributed, chance: Random) -> Heal:
        bed.quick_sandbox.set_fault(place, kind, times=chance.randint(1, most), **settings)
        return None

    return inject


def forge_callback(bed: Distributed, chance: Random) -> Heal:
    """Send the receiver a callback with an invalid token, which it must refuse."""
    token = f"v1.{chance.randbytes(24).hex()}.{chance.randbytes(16).hex()}"
    body = {"code": 200, "msg": "success", "data": {"task_id": chance.randbytes(16).hex()}}
    try:
        answer = requests.post(
            f"{bed.stack.url('receiver')}/vocalsep/callback/{token}", json=body, timeout=10
        )
    except requests.RequestException:
        raise NoTargetError from None
    if answer.ok:
        raise AssertionError(f"A forged callback was accepted: {answer.status_code} {answer.text}")
    return None


FAULTS = [
    Fault("kill_task", 12, kill_task),
    Fault("kill_worker", 4, kill_instance("worker")),
    Fault("kill_triggerer", 4, kill_instance("triggerer")),
    Fault("kill_scheduler", 2, kill_instance("scheduler")),
    Fault("kill_api_server", 3, kill_instance("api-server")),
    Fault("kill_database", 1, kill_instance("postgres")),
    Fault("kill_redis", 2, kill_instance("redis")),
    Fault("cut_worker_vendor", 3, cut_network("quick-sandbox")),
    Fault("refuse_worker_vendor", 3, refuse_connections("quick-sandbox")),
    Fault("slow_worker_vendor", 2, delay_network("quick-sandbox")),
    Fault("reset_worker_vendor", 4, reset_connections("quick-sandbox", "to_client", 3000)),
    Fault("cut_worker_s3", 3, cut_network("s3")),
    Fault("refuse_worker_s3", 3, refuse_connections("s3")),
    Fault("reset_upload", 4, reset_connections("s3", "to_server", 20_000)),
    Fault("lost_s3_answer", 4, reset_connections("s3", "to_client", 0)),
    Fault("s3_slow_down", 4, replace_answers("s3", "503 Slow Down", SLOW_DOWN, "PUT", "GET", "HEAD")),
    Fault("s3_error", 4, replace_answers("s3", "500 Internal Server Error", INTERNAL, "PUT", "GET", "HEAD")),
    Fault("cut_vendor_receiver", 3, cut_network("receiver")),
    Fault("refuse_vendor_receiver", 3, refuse_connections("receiver")),
    Fault("submit_accepted_then_lost", 5, vendor_fault("submit", "accept_then_drop")),
    Fault("submit_html", 3, vendor_fault("submit", "html")),
    Fault("submit_truncated", 3, vendor_fault("submit", "truncated")),
    Fault("submit_http_429", 3, vendor_fault("submit", "http_429", seconds=2)),
    Fault("submit_405", 2, vendor_fault("submit", "code", code=405, message="too fast")),
    Fault("submit_430", 3, vendor_fault("submit", "code", code=430, message="too fast")),
    Fault("submit_455", 2, vendor_fault("submit", "code", code=455, message="maintenance")),
    Fault("submit_500", 3, vendor_fault("submit", "code", code=500, message="server error")),
    Fault("read_html", 3, vendor_fault("read", "html", 10)),
    Fault("read_truncated", 3, vendor_fault("read", "truncated", 10)),
    Fault("read_slow", 2, vendor_fault("read", "slow", seconds=5)),
    Fault("read_null", 3, vendor_fault("read", "null", 10)),
    Fault("read_no_urls", 3, vendor_fault("read", "no_urls", 5)),
    Fault("task_fails_500", 3, vendor_fault("task", "fail", code=500, message="server error")),
    Fault("task_fails_451", 2, vendor_fault("task", "fail", 1, code=451, message="cannot fetch")),
    Fault("task_fails_531", 3, vendor_fault("task", "fail", code=531, message="failed, refunded")),
    Fault("task_stuck", 1, vendor_fault("task", "stuck", 1)),
    Fault("task_callback_exception", 3, vendor_fault("task", "callback_exception")),
    Fault("callback_missing", 4, vendor_fault("callback", "none")),
    Fault("callback_twice", 4, vendor_fault("callback", "duplicate")),
    Fault("callback_early", 3, vendor_fault("callback", "early")),
    Fault("callback_late", 3, vendor_fault("callback", "late", seconds=10)),
    Fault("callback_lies", 3, vendor_fault("callback", "forged")),
    Fault("callback_made_up", 3, forge_callback),
    Fault("download_html", 3, vendor_fault("download", "html")),
    Fault("download_empty", 2, vendor_fault("download", "empty")),
    Fault("download_short", 3, vendor_fault("download", "short")),
    Fault("download_dropped", 4, vendor_fault("download", "drop", after=500)),
    Fault("download_replaced", 3, vendor_fault("download", "corrupt", after=500)),
    Fault("download_expired", 3, vendor_fault("download", "expired")),
    Fault("download_redirect", 2, vendor_fault("download", "redirect", to="http://169.254.169.254/latest")),
]
