"""What happened to every track: one row for each ledger entry, and for each track that never got as far as one."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.audit.totals import ALL, Scope, Totals, books_of, last_event
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.listing import state_of
from airflow_provider_vocalsep.runs.report import RowState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_vocalsep.audit.entries import Archive, Found, FoundReport
    from airflow_provider_vocalsep.ledger import LedgerEntry

#: States of a row, in the order of a track's life. ``in_doubt`` is a claim whose submit was not answered; ``left`` has none.
STATES = ("left", "claimed", "in_doubt", "submitted", "separated", "landed", "failed")

#: Rows of a report that say something which no ledger entry says: nothing was claimed.
_UNCLAIMED = {RowState.FAILED.value, RowState.LEFT.value}


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
    :param books: What it cost.
    :param first_at: When it was claimed first.
    :param last_at: When something happened last.
    :param last_event: What that was.
    :param dag_id: Whose DAG was at it last.
    :param run_id: Which run of it.
    :param user: Who triggered that run by hand.
    :param message: The vendor's or our words about the last failure, while it has not landed.
    :param manifest: Where it landed last.
    :param entry: Address of the ledger entry.
    """

    track: str
    title: str | None
    state: str
    separation_type: str | None
    stem_name: str | None = None
    account: str | None = None
    source: str | None = None
    books: Totals = field(default_factory=Totals)
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
        flat = {name: value for name, value in vars(self).items() if name != "books"}
        for name in ("first_at", "last_at"):
            flat[name] = flat[name].isoformat(timespec="seconds") if flat[name] else None
        return {**flat, **self.books.as_dict()}


@dataclass(frozen=True)
class Wanted:
    """
    Which rows are asked for.

    :param states: In one of these states; all if empty.
    :param track: Part of the key or title, or a pattern with ``*``; or the whole of a vendor task's id.
    :param scope: What happened in it.
    """

    states: frozenset[str] = frozenset()
    track: str | None = None
    scope: Scope = ALL

    def names(self, texts: Iterable[str | None]) -> bool:
        """Tell whether one of some names is asked for."""
        if self.track is None:
            return True
        wanted = self.track.casefold()
        given = [text.casefold() for text in texts if text]
        if any(c in wanted for c in "*?["):
            return any(fnmatch.fnmatchcase(text, wanted) for text in given)
        return any(wanted in text for text in given)

    def is_state(self, state: str) -> bool:
        """Tell whether a state is asked for."""
        return not self.states or state in self.states


@dataclass
class Audit:
    """
    The answer.

    :param rows: What was asked for, by track.
    :param books: Their sums.
    :param states: How many are in which state.
    :param troubles: What could not be read.
    """

    rows: list[AuditRow] = field(default_factory=list)
    books: Totals = field(default_factory=Totals)
    states: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, row: AuditRow) -> None:
        """Add a row."""
        self.rows.append(row)
        self.books.add(row.books)
        self.states[row.state] = self.states.get(row.state, 0) + 1


def audit(archive: Archive, wanted: Wanted, on_read: Callable[[], None] = lambda: None) -> Audit:
    """
    Go through ledger and run reports.

    :param archive: The destination.
    :param wanted: Which rows are asked for.
    :param on_read: Called after each ledger entry.
    :raises BucketError: they cannot be listed.
    """
    answer, claimed = Audit(), set()
    for found in archive.entries(on_read):
        if found.entry is None:
            answer.troubles.append(found.trouble)
            continue
        entry = found.entry
        claimed.add((entry.source, entry.separation_type.value, entry.stem_name))
        row = row_of(found, entry, wanted)
        if row is not None:
            answer.add(row)
    reports = list(archive.reports(archive.run_files()))
    answer.troubles += [found.trouble for found in reports if found.report is None]
    for row in unclaimed(reports, claimed, wanted):
        answer.add(row)
    answer.rows.sort(key=lambda row: (row.track, row.separation_type or "", row.stem_name or ""))
    return answer


def row_of(found: Found, entry: LedgerEntry, wanted: Wanted) -> AuditRow | None:
    """Return the row of an entry, ``None`` if it is not asked for."""
    state = state_of_entry(entry)
    ids = {attempt.vendor_task_id for attempt in entry.attempts}
    is_named = wanted.names([entry.track_key, entry.title, *entry.landings]) or wanted.track in ids
    last = last_event(entry, wanted.scope)
    if last is None or not is_named or not wanted.is_state(state):
        return None
    failed = [
        e for e in entry.history if e.event in ("failed", "submit_refused", "landing_failed", "submit_lost")
    ]
    landings = sorted(entry.landings.items(), key=lambda item: item[1].at)
    return AuditRow(
        track=entry.track_key,
        title=entry.title,
        state=state,
        separation_type=entry.separation_type.value,
        stem_name=entry.stem_name,
        account=entry.account,
        source=entry.source,
        books=books_of(entry, wanted.scope),
        first_at=entry.history[0].at if entry.history else None,
        last_at=last.last_at or last.at,
        last_event=last.event,
        dag_id=last.by.dag_id if last.by else None,
        run_id=last.by.run_id if last.by else None,
        user=last.by.user if last.by else None,
        message=failed[-1].message if failed and state != EntryState.LANDED.value else None,
        manifest=landings[-1][0] if landings else None,
        entry=found.uri,
    )


def state_of_entry(entry: LedgerEntry) -> str:
    """Return the state of an entry, with a claim whose submit was not answered told apart once it is known to be lost."""
    lost = {e.attempt_id for e in entry.history if e.event == "submit_lost"}
    left = any(e.event == "left_in_doubt" for e in entry.history)
    if entry.state is EntryState.CLAIMED and (entry.current.attempt_id in lost or left):
        return "in_doubt"
    return entry.state.value


def unclaimed(
    reports: Iterable[FoundReport], claimed: set[tuple[str, str, str | None]], wanted: Wanted
) -> Iterable[AuditRow]:
    """
    Give the tracks of which only reports know: they failed, or were left, before anything was claimed.

    :param reports: All reports.
    :param claimed: Source, separation type and stem name of what the ledger knows.
    :param wanted: Which are asked for.
    """
    seen = set()
    for found in sorted(reports, key=lambda found: found.file.modified, reverse=True):
        head = found.report.head if found.report else {}
        kind, stem = head.get("separation_type"), head.get("stem_name")
        at = datetime.fromtimestamp(found.file.modified, tz=timezone.utc)
        for row in found.report.rows if found.report else ():
            which = (row["track"], kind, stem)
            if which in seen:
                continue
            seen.add(which)
            known = (row.get("source"), kind, stem) in claimed or row.get("attempt_id")
            if known or state_of(row) not in _UNCLAIMED:
                continue
            if not (wanted.is_state(state_of(row)) and wanted.names([row["track"], row.get("title")])):
                continue
            if not _in_scope(head, at, wanted.scope):
                continue
            yield AuditRow(
                track=row["track"], title=row.get("title"), state=state_of(row), separation_type=kind, stem_name=stem,
                source=row.get("source"), last_at=at, last_event=state_of(row), dag_id=head["dag_id"],
                run_id=head["run_id"], user=head.get("user"), message=row.get("message"),
            )  # fmt: skip


def _in_scope(head: dict[str, Any], at: datetime, scope: Scope) -> bool:
    return (
        scope.dag_id in (None, head.get("dag_id"))
        and scope.run_id in (None, head.get("run_id"))
        and (scope.since is None or at >= scope.since)
        and (scope.until is None or at < scope.until)
    )
