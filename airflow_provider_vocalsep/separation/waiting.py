"""Waiting for a vendor task in the worker, for ``deferrable=False``."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.separation.clock import SteadyClock
from airflow_provider_vocalsep.separation.polling import Ended, Poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.api.models import SeparationTask

log = logging.getLogger(__name__)


class WaitGivenUpError(VocalSepError):
    """The deadline passed, or the vendor does not report on the task. A retry attaches to it."""


def wait_here(
    read_task: Callable[[str], SeparationTask | None],
    poller: Poller,
    *,
    now: Callable[[], float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Ended:
    """
    Poll until the wait ends.

    :param now: The clock, in epoch seconds; a :class:`SteadyClock` by default.
    """
    now = now or SteadyClock()
    while True:
        try:
            task = read_task(poller.vendor_task_id)
        except Exception as e:
            step = poller.on_error(e, now())
        else:
            step = poller.on_record(task, now())
        if isinstance(step, Ended):
            return step
        if step.problem:
            log.warning(
                "Vendor task %s: %s; reading again in %.0f s.",
                poller.vendor_task_id,
                step.problem,
                step.seconds,
            )
        sleep(step.seconds)
