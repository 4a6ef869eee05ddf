"""
Metrics through Airflow's Stats; ``docs/metrics.md`` has the table.

Money and stems are counted from the events of the ledger's history when they are stored: a retry or another
run that only finds them there does not count them again, and the counters add up to what the ledger says.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk.observability.stats import Stats
except ImportError:  # Airflow before 3.2
    from airflow.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger import Event, LedgerEntry, TaskInstanceRef

log = logging.getLogger(__name__)

#: Counters of each event of the ledger's history.
COUNTED_EVENTS = {
    "submitted": ("submitted",),
    "adopted": ("submitted", "adopted"),
    "sent_again": ("sent_again",),
    "submit_refused": ("submit_refused",),
    "submit_lost": ("submit_lost",),
    "attached": ("attached",),
    "separated": ("separated",),
    "failed": ("separation_failed",),
    "wait_ended": ("wait_ended",),
    "landing_failed": ("landing_failed",),
    "skipped": ("skipped",),
}

#: Other counters, and timers.
OTHER_COUNTERS = ("landed", "stems", "bytes", "credits", "credits_refunded", "failed", "left")
TIMERS = ("separation_duration", "landing_duration")


def _never_raise(count: Callable[..., None]) -> Callable[..., None]:
    """Log errors of metrics: they must not fail tracks that are paid for."""

    @functools.wraps(count)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            count(*args, **kwargs)
        except Exception:
            log.warning("Could not send a metric. Nothing else is affected.", exc_info=True)

    return guarded


@_never_raise
def count_event(entry: LedgerEntry, event: Event) -> None:
    """
    Count an event of the ledger's history.

    :param entry: The entry, with the event in it.
    """
    tags = _tags(event.by, entry.separation_type.value, entry.account)
    if event.event == "landed":
        _count_landed(tags, [file.bytes for file in event.files or ()])
    elif not _repeats_failure(entry, event):
        for name in COUNTED_EVENTS.get(event.event, ()):
            _incr(name, 1, tags)
    if event.credits:
        _incr("credits" if event.credits > 0 else "credits_refunded", abs(event.credits), tags)
    _time(entry, event, tags)


@_never_raise
def count_transfer(manifest: Manifest, asked_by: TaskInstanceRef, account: str) -> None:
    """Count a landing of ``VocalSeparationToS3Operator``, which has no ledger."""
    tags = _tags(asked_by, manifest.separation_type.value, account)
    _count_landed(tags, [stem.bytes for stem in manifest.stems])


@_never_raise
def count_unlanded(name: str, count: int, asked_by: TaskInstanceRef, separation_type: str) -> None:
    """
    Count tracks that did not land and that Airflow does not retry.

    :param name: ``failed`` or ``left``.
    """
    _incr(name, count, _tags(asked_by, separation_type))


def _count_landed(tags: dict[str, str], sizes: list[int]) -> None:
    _incr("landed", 1, tags)
    _incr("stems", len(sizes), tags)
    _incr("bytes", sum(sizes), tags)


def _repeats_failure(entry: LedgerEntry, event: Event) -> bool:
    """Return whether an event only marks an attempt's failure, counted before, as final."""
    failures = [e for e in entry.history if (e.event, e.attempt_id) == ("failed", event.attempt_id)]
    return event.event == "failed" and len(failures) > 1


def _time(entry: LedgerEntry, event: Event, tags: dict[str, str]) -> None:
    """Send the duration of separation or landing, once for each vendor task."""
    events = [e for e in entry.history if e.vendor_task_id == event.vendor_task_id]
    starts = {"separated": ("submitted", "adopted"), "landed": ("separated",)}.get(event.event, ())
    start = next((e.at for e in events if e.event in starts), None)
    if start is None or sum(e.event == event.event for e in events) > 1:
        return
    name = "separation_duration" if event.event == "separated" else "landing_duration"
    Stats.timing(f"vocalsep.{name}", event.at - start, tags=tags)


def _tags(
    asked_by: TaskInstanceRef | None, separation_type: str, account: str | None = None
) -> dict[str, str]:
    tags = {
        "dag_id": asked_by.dag_id if asked_by else None,
        "task_id": asked_by.task_id if asked_by else None,
        "separation_type": separation_type,
        "account": account,
    }
    return {name: value for name, value in tags.items() if value}


def _incr(name: str, count: float, tags: dict[str, str]) -> None:
    if count:
        Stats.incr(f"vocalsep.{name}", round(count), tags=tags)
