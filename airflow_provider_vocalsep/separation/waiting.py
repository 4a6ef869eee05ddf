"""Waiting for a vendor task in the calling process, for ``deferrable=False``."""

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
    """A deadline passed. The vendor's task goes on; a retry attaches to it."""


class WaitRefusedError(VocalSepError):
    """The vendor does not answer what became of a task, and will not until a person changes something."""

    retryable = False


def wait_here(
    read_task: Callable[[str], SeparationTask | None],
    poller: Poller,
    *,
    now: Callable[[], float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Ended:
    """
    Poll until the wait is over.

    :param read_task: Reads the record of a task.
    :param poller: Decides.
    :param now: The clock, in epoch seconds; by default one that no jump of the machine's disturbs.
    :param sleep: How to wait, in seconds.
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
        if step.trouble:
            log.warning(
                "Vendor task %s: %s; reading again in %.0f s.",
                poller.vendor_task_id,
                step.trouble,
                step.seconds,
            )
        sleep(step.seconds)
