"""What happened to every track: a row for each ledger entry, and for each track in run reports only."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.audit.entries import newest_rows
from airflow_provider_vocalsep.audit.totals import ALL, Scope, Totals, add_up_history, last_event
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.report import RowState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from airflow_provider_vocalsep.audit.entries import Archive, ReportedTrack, StoredReport
    from airflow_provider_vocalsep.ledger import LedgerEntry

#: States of a row, in the order of a track's life. ``left``: never claimed. ``in_doubt``: the submit was not
#: answered. ``refused``: nothing is paid; the next claim submits it.
STATES = ("left", "claimed", "in_doubt", "refused", "submitted", "separated", "landed", "failed")

#: States of a report's rows that may have no ledger entry, because nothing was claimed.
_UNCLAIMED = (RowState.FAILED, RowState.LEFT)

#: Events whose message is the reason of a failure.
_FAILURES = ("failed", "submit_refused", "landing_failed", "submit_lost")


@dataclass(frozen=True)
class AuditRow:
    """
    One separation.

    :param track: Key of the track.
    :param title: Its title.
    :param state: One of :data:`STATES`.
    :param separation_type: What it is separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param account: The vendor account that pays.
    :param source: Its audio.
    :param totals: What it cost.
    :param first_at: When it was first claimed.
    :param last_at: When its last event happened.
    :param last_event: That event.
    :param dag_id: DAG of that event.
    :param run_id: DAG run of that event.
    :param user: Who triggered that DAG run by hand.
    :param message: Reason of the last failure, until it lands.
    :param manifest: Address of the latest manifest.
    :param entry: Address of the ledger entry.
    """

    track: str
    title: str | None
    state: str
    separation_type: str | None
    stem_name: str | None = None
    account: str | None = None
    source: str | None = None
    totals: Totals = field(default_factory=Totals)
    first_at: datetime | None = None
    last_at: datetime | None = None
    last_event: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    user: str | None = None
    message: str | None = None
    manifest: str | None = None
    entry: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it flat, for JSON and CSV."""
        flat = {name: value for name, value in vars(self).items() if name != "totals"}
        for name in ("first_at", "last_at"):
            flat[name] = flat[name].isoformat(timespec="seconds") if flat[name] else None
        return {**flat, **self.totals.as_dict()}


@dataclass(frozen=True)
class TrackFilter:
    """
    Which rows to return.

    :param states: In one of these states; all if empty.
    :param track: Part of the key or title, or a pattern with ``*``; or the id of a vendor task.
    :param scope: With an event in this scope.
    """

    states: frozenset[str] = frozenset()
    track: str | None = None
    scope: Scope = ALL

    def matches_name(self, names: Iterable[str | None]) -> bool:
        """Return whether one of some names matches."""
        if self.track is None:
            return True
        pattern = self.track.casefold()
        folded = [name.casefold() for name in names if name]
        if any(c in pattern for c in "*?["):
            return any(fnmatch.fnmatchcase(name, pattern) for name in folded)
        return any(pattern in name for name in folded)

    def matches_state(self, state: str) -> bool:
        """Return whether a state matches."""
        return not self.states or state in self.states


@dataclass
class TrackAudit:
    """
    Rows and their totals.

    :param rows: The rows that match the filter, by track.
    :param totals: The sum of their totals.
    :param states: How many rows are in each state.
    :param unreadable: Messages about what could not be read.
    """

    rows: list[AuditRow] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    states: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, row: AuditRow) -> None:
        """Add a row."""
        self.rows.append(row)
        self.totals.add(row.totals)
        self.states[row.state] = self.states.get(row.state, 0) + 1


def audit_tracks(
    archive: Archive, wanted: TrackFilter, on_read: Callable[[], None] = lambda: None
) -> TrackAudit:
    """
    Read ledger and run reports.

    :param on_read: Called after each ledger entry.
    :raises StorageError: they cannot be listed.
    """
    audit, claimed = TrackAudit(), set()
    for stored in archive.entries(on_read):
        if stored.entry is None:
            audit.unreadable.append(stored.error)
            continue
        entry = stored.entry
        claimed.add((entry.source, entry.separation_type.value, entry.stem_name))
        if row := entry_row(stored.uri, entry, wanted):
            audit.add(row)
    reports = list(archive.reports(archive.run_files()))
    audit.unreadable += [stored.error for stored in reports if stored.report is None]
    for row in unclaimed_rows(reports, claimed, wanted):
        audit.add(row)
    audit.rows.sort(key=lambda row: (row.track, row.separation_type or "", row.stem_name or ""))
    return audit


def entry_row(uri: str, entry: LedgerEntry, wanted: TrackFilter) -> AuditRow | None:
    """Return the row of a ledger entry, ``None`` if it does not match the filter."""
    state = entry_state(entry)
    vendor_task_ids = {attempt.vendor_task_id for attempt in entry.attempts}
    names = [entry.track_key, entry.title, *entry.landings]
    is_named = wanted.matches_name(names) or wanted.track in vendor_task_ids
    last = last_event(entry, wanted.scope)
    if last is None or not is_named or not wanted.matches_state(state):
        return None
    failures = [event.message for event in entry.history if event.event in _FAILURES]
    landings = sorted(entry.landings.items(), key=lambda item: item[1].at)
    return AuditRow(
        track=entry.track_key,
        title=entry.title,
        state=state,
        separation_type=entry.separation_type.value,
        stem_name=entry.stem_name,
        account=entry.account,
        source=entry.source,
        totals=add_up_history(entry, wanted.scope),
        first_at=entry.history[0].at if entry.history else None,
        last_at=last.last_at or last.at,
        last_event=last.event,
        dag_id=last.by.dag_id if last.by else None,
        run_id=last.by.run_id if last.by else None,
        user=last.by.user if last.by else None,
        message=failures[-1] if failures and state != EntryState.LANDED.value else None,
        manifest=landings[-1][0] if landings else None,
        entry=uri,
    )


def entry_state(entry: LedgerEntry) -> str:
    """Return the state of an entry; ``in_doubt`` for a claim whose submit is known to be unanswered."""
    lost = {e.attempt_id for e in entry.history if e.event == "submit_lost"}
    left = any(e.event == "left_in_doubt" for e in entry.history)
    if entry.state is EntryState.CLAIMED and (entry.current.attempt_id in lost or left):
        return "in_doubt"
    return entry.state.value


def unclaimed_rows(
    reports: Iterable[StoredReport], claimed: set[tuple[str, str, str | None]], wanted: TrackFilter
) -> Iterator[AuditRow]:
    """
    Return rows of the tracks that are only in run reports: they failed, or were left, unclaimed.

    :param claimed: Source, separation type and stem name of each ledger entry.
    """
    for reported in newest_rows(reports):
        row = reported.row
        is_claimed = (row.source, *reported.kind) in claimed or row.attempt_id
        if is_claimed or row.state not in _UNCLAIMED:
            continue
        is_named = wanted.matches_name([row.track, row.title])
        if is_named and wanted.matches_state(row.state.value) and reported.is_in(wanted.scope):
            yield _report_row(reported)


def _report_row(reported: ReportedTrack) -> AuditRow:
    row, head = reported.row, reported.head
    separation_type, stem_name = reported.kind
    return AuditRow(
        track=row.track,
        title=row.title,
        state=row.state.value,
        separation_type=separation_type,
        stem_name=stem_name,
        source=row.source,
        last_at=reported.written_at,
        last_event=row.state.value,
        dag_id=head["dag_id"],
        run_id=head["run_id"],
        user=head.get("user"),
        message=row.message,
    )
