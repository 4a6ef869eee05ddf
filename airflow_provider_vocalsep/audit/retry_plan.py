"""A catalogue of the tracks that failed or were left, from run reports, plans and the ledger."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.audit.entries import newest_rows
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.keys import safe_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_provider_vocalsep.audit.entries import Archive, StoredReport
    from airflow_provider_vocalsep.audit.totals import Scope
    from airflow_provider_vocalsep.ledger import LedgerEntry
    from airflow_provider_vocalsep.runs.listing import RunFile

#: Columns of the catalogue; PlanCatalogueOperator reads the first six.
COLUMNS = ("key", "title", "task_id", "audio_id", "audio_url", "duration", "state", "reason")


@dataclass
class Candidate:
    """
    A track that failed or was left.

    :param key: Its key.
    :param title: Its title.
    :param state: ``failed`` or ``left``.
    :param reason: Why.
    :param separation_type: What it is separated into, if the report has it.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    :param source: Its audio, if the report has it.
    :param folder: Folder of its DAG run, if a report has the track.
    :param entry: Address of its ledger entry.
    """

    key: str
    title: str | None
    state: str
    reason: str
    separation_type: str | None
    stem_name: str | None
    source: str | None
    folder: str | None
    entry: str | None


@dataclass
class RetryPlan:
    """
    The tracks to retry.

    :param rows: Rows of the catalogue.
    :param kinds: How many rows there are of each separation type and stem name.
    :param problems: What could not be read, and the tracks that cannot be retried.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def plan_retry(
    archive: Archive,
    scope: Scope,
    *,
    states: frozenset[str] = frozenset({"failed", "left"}),
    separation_type: str | None = None,
    on_read: Callable[[], None] = lambda: None,
) -> RetryPlan:
    """
    Find the tracks that failed or were left and have not landed since.

    :param scope: Only those of these DAG runs.
    :param states: ``failed``, ``left`` or both.
    :param separation_type: Only those of this separation type.
    :param on_read: Called after each ledger entry.
    :raises StorageError: the bucket cannot be listed.
    """
    plan, entries = RetryPlan(), {}
    for stored in archive.entries(on_read):
        if stored.entry is None:
            plan.problems.append(stored.error)
        else:
            entries[stored.uri] = stored.entry
    files = archive.run_files()
    reports = list(archive.reports(files))
    plan.problems += [stored.error for stored in reports if stored.report is None]
    candidates = [
        candidate
        for candidate in [*_in_reports(reports, scope), *_in_ledger_only(reports, entries, scope)]
        if candidate.state in states
        and separation_type in (None, candidate.separation_type)
        and not _has_landed(archive, candidate, entries)
    ]
    planned = _read_plans(archive, candidates, files, plan.problems)
    for candidate in candidates:
        _add(plan, candidate, planned.get((candidate.folder or "", candidate.key)), entries)
    return plan


def _add(
    plan: RetryPlan, candidate: Candidate, planned: dict[str, Any] | None, entries: dict[str, LedgerEntry]
) -> None:
    entry = entries.get(candidate.entry or "")
    source = candidate.source or (entry.source if entry else None)
    fields = planned or _track_fields(source)
    try:
        track = Track.parse({"title": candidate.title, **fields, "key": candidate.key})
    except TrackError as e:
        plan.problems.append(f"Track {candidate.key!r} is left out, its audio is no longer known: {e}")
        return
    kind = candidate.separation_type or "unknown"
    if candidate.stem_name:
        kind += f" {candidate.stem_name!r}"
    plan.kinds[kind] = plan.kinds.get(kind, 0) + 1
    plan.rows.append(
        {**track.model_dump(exclude_none=True), "state": candidate.state, "reason": candidate.reason}
    )


def _track_fields(source: str | None) -> dict[str, Any]:
    """Return the fields of a track that identify its audio."""
    if source is None:
        return {}
    if "://" in source:
        return {"audio_url": source}
    task_id, _, audio_id = source.partition("/")
    return {"task_id": task_id, "audio_id": audio_id}


def _in_reports(reports: Iterable[StoredReport], scope: Scope) -> Iterator[Candidate]:
    """Return each track as its newest report has it."""
    for reported in newest_rows(reports):
        row, (separation_type, stem_name) = reported.row, reported.kind
        if reported.is_in(scope):
            yield Candidate(
                key=row.track,
                title=row.title,
                state=row.state.value,
                reason=row.message or "",
                separation_type=separation_type,
                stem_name=stem_name,
                source=row.source,
                folder=reported.file.folder,
                entry=row.entry,
            )


def _in_ledger_only(
    reports: Iterable[StoredReport], entries: dict[str, LedgerEntry], scope: Scope
) -> Iterator[Candidate]:
    """Return the failed ledger entries that are in no report."""
    reported = {row.entry for stored in reports if stored.report for row in stored.report.rows.values()}
    for uri, entry in entries.items():
        outcome = entry.current.outcome
        if entry.state not in (EntryState.REFUSED, EntryState.FAILED) or uri in reported or outcome is None:
            continue
        if scope.covers(entry.current.asked_by, outcome.at):
            yield Candidate(
                key=entry.track_key,
                title=entry.title,
                state="failed",
                reason=outcome.message,
                separation_type=entry.separation_type.value,
                stem_name=entry.stem_name,
                source=entry.source,
                folder=None,
                entry=uri,
            )


def _has_landed(archive: Archive, candidate: Candidate, entries: dict[str, LedgerEntry]) -> bool:
    entry = entries.get(candidate.entry or "")
    if entry is None or entry.state is not EntryState.LANDED:
        return False
    # The same audio may have landed as another track, and not as this one.
    return candidate.key == entry.track_key or any(
        f"/{safe_key(candidate.key)}/" in uri for uri in entry.landings if archive.destination.key_of(uri)
    )


def _read_plans(
    archive: Archive, candidates: Iterable[Candidate], files: Iterable[RunFile], problems: list[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the tracks from the plans of their DAG runs, which have signed addresses too."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for candidate in candidates:
        wanted[candidate.folder or ""].add(candidate.key)
    bucket = archive.destination.bucket
    tracks: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        if file.planned is None or file.folder not in wanted:
            continue
        try:
            body = archive.store.get(bucket, file.key)
            rows = [json.loads(line) for line in body.decode().split("\n") if line.strip()]
            tracks |= {(file.folder, row["key"]): row for row in rows if row["key"] in wanted[file.folder]}
        except (StorageError, ValueError, KeyError, TypeError) as e:
            problems.append(f"The plan {archive.destination.uri_of(file.key)} cannot be read: {e}")
    return tracks


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Write a catalogue as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """Write a catalogue as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
