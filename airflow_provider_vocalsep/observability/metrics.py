"""
What the provider counts through Airflow's Stats; ``docs/metrics.md`` has the table.

Money and stems are counted from the lines of the ledger's history, as they get into the store: what a retry or another
run only finds there is not counted again, and the counters add up to what the ledger says.
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

#: Counters by the line of the history that counts.
COUNTED_LINES = {
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
OTHERS = ("landed", "stems", "bytes", "credits", "credits_refunded", "failed", "left")
TIMERS = ("separation_duration", "landing_duration")


def _harmless(count: Callable[..., None]) -> Callable[..., None]:
    """Keep what goes wrong with a metric away from tracks that are paid for."""

    @functools.wraps(count)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            count(*args, **kwargs)
        except Exception:
            log.warning("A metric was not sent, which changes nothing else.", exc_info=True)

    return guarded


@_harmless
def count_event(entry: LedgerEntry, event: Event) -> None:
    """
    Count a line of a ledger's history.

    :param entry: The entry.
    :param event: The line, in the store by now.
    """
    tags = _tags(event.by, entry.separation_type.value, entry.account)
    if event.event == "landed":
        _count_landed(tags, [file.bytes for file in event.files or ()])
    elif not _said_before(entry, event):
        for name in COUNTED_LINES.get(event.event, ()):
            _incr(name, 1, tags)
    if event.credits:
        _incr("credits" if event.credits > 0 else "credits_refunded", abs(event.credits), tags)
    _time(entry, event, tags)


@_harmless
def landed_by_transfer(manifest: Manifest, asker: TaskInstanceRef, account: str) -> None:
    """
    Count a landing that no ledger knows of.

    :param manifest: What landed.
    :param asker: The task instance that landed it.
    :param account: The vendor account.
    """
    tags = _tags(asker, manifest.separation_type.value, account)
    _count_landed(tags, [stem.bytes for stem in manifest.stems])


@_harmless
def tracks_ended(name: str, count: int, asker: TaskInstanceRef, separation_type: str) -> None:
    """
    Count tracks that came to nothing, when Airflow does not try again.

    :param name: ``failed`` or ``left``.
    :param count: How many.
    :param asker: The task instance.
    :param separation_type: What was asked for.
    """
    _incr(name, count, _tags(asker, separation_type))


def _count_landed(tags: dict[str, str], sizes: list[int]) -> None:
    _incr("landed", 1, tags)
    _incr("stems", len(sizes), tags)
    _incr("bytes", sum(sizes), tags)


def _said_before(entry: LedgerEntry, event: Event) -> bool:
    """Tell whether a failure is only found to be final now: it is one failure."""
    said = [line for line in entry.history if (line.event, line.attempt_id) == ("failed", event.attempt_id)]
    return event.event == "failed" and len(said) > 1


def _time(entry: LedgerEntry, event: Event, tags: dict[str, str]) -> None:
    """Time the vendor's part and ours, once for each vendor task."""
    ours = [line for line in entry.history if line.vendor_task_id == event.vendor_task_id]
    began = {"separated": ("submitted", "adopted"), "landed": ("separated",)}.get(event.event, ())
    start = next((line.at for line in ours if line.event in began), None)
    if start is None or sum(line.event == event.event for line in ours) > 1:
        return
    name = "separation_duration" if event.event == "separated" else "landing_duration"
    Stats.timing(f"vocalsep.{name}", event.at - start, tags=tags)


def _tags(asker: TaskInstanceRef | None, separation_type: str, account: str | None = None) -> dict[str, str]:
    tags = {
        "dag_id": asker.dag_id if asker else None,
        "task_id": asker.task_id if asker else None,
        "separation_type": separation_type,
        "account": account,
    }
    return {name: value for name, value in tags.items() if value}


def _incr(name: str, count: float, tags: dict[str, str]) -> None:
    if count:
        Stats.incr(f"vocalsep.{name}", round(count), tags=tags)
