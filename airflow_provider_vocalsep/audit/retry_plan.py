"""A catalogue of what failed or was left, from run reports, plans and the ledger."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.audit.bucket import BucketError, read_object
from airflow_provider_vocalsep.ledger import EntryState
from airflow_provider_vocalsep.runs.listing import state_of
from airflow_provider_vocalsep.storage.keys import safe_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_vocalsep.audit.entries import Archive, FoundReport
    from airflow_provider_vocalsep.audit.totals import Scope
    from airflow_provider_vocalsep.ledger import LedgerEntry
    from airflow_provider_vocalsep.runs.listing import RunFile

#: Columns of the catalogue; a plan reads the first six.
COLUMNS = ("key", "title", "task_id", "audio_id", "audio_url", "duration", "state", "reason")


@dataclass
class Candidate:
    """
    A track that is to be tried again.

    :param key: Its key.
    :param title: Its title.
    :param state: ``failed`` or ``left``.
    :param reason: Why.
    :param separation_type: What was asked for, if the report says.
    :param stem_name: The stem asked for.
    :param source: Its audio, if the report says.
    :param folder: Folder of its run.
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
    What is to be tried again.

    :param rows: Lines of the catalogue.
    :param kinds: How many of each separation type and stem name.
    :param troubles: What could not be read, or cannot be tried again, and why.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def retry_plan(
    archive: Archive,
    scope: Scope,
    *,
    states: frozenset[str] = frozenset({"failed", "left"}),
    separation_type: str | None = None,
    on_read: Callable[[], None] = lambda: None,
) -> RetryPlan:
    """
    Find what failed or was left and has not landed since.

    :param archive: The destination.
    :param scope: Of these runs only.
    :param states: ``failed``, ``left`` or both.
    :param separation_type: Of this separation type only.
    :param on_read: Called after each ledger entry.
    :raises BucketError: the bucket cannot be listed.
    """
    plan, entries = RetryPlan(), {}
    for found in archive.entries(on_read):
        if found.entry is None:
            plan.troubles.append(found.trouble)
        else:
            entries[found.uri] = found.entry
    files = archive.run_files()
    reports = list(archive.reports(files))
    plan.troubles += [found.trouble for found in reports if found.report is None]
    candidates = [
        candidate
        for candidate in [*_reported(reports, scope), *_only_in_ledger(reports, entries, scope)]
        if candidate.state in states
        and separation_type in (None, candidate.separation_type)
        and not _has_landed(archive, candidate, entries)
    ]
    planned = _planned(archive, candidates, files, plan.troubles)
    for candidate in candidates:
        _add(plan, candidate, planned.get((candidate.folder or "", candidate.key)), entries)
    return plan


def _add(
    plan: RetryPlan, candidate: Candidate, planned: dict[str, Any] | None, entries: dict[str, LedgerEntry]
) -> None:
    entry = entries.get(candidate.entry or "")
    source = candidate.source or (entry.source if entry else None)
    fields = planned or _fields_of(source)
    try:
        track = Track.parse({"title": candidate.title, **fields, "key": candidate.key})
    except TrackError as e:
        plan.troubles.append(f"Track {candidate.key!r} is left out, its audio is not known any more: {e}")
        return
    kind = candidate.separation_type or "not said"
    if candidate.stem_name:
        kind += f" {candidate.stem_name!r}"
    plan.kinds[kind] = plan.kinds.get(kind, 0) + 1
    plan.rows.append(
        {**track.model_dump(exclude_none=True), "state": candidate.state, "reason": candidate.reason}
    )


def _fields_of(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    if "://" in source:
        return {"audio_url": source}
    task_id, _, audio_id = source.partition("/")
    return {"task_id": task_id, "audio_id": audio_id}


def _reported(reports: Iterable[FoundReport], scope: Scope) -> Iterable[Candidate]:
    """Give what the newest report of each track says."""
    seen = set()
    for found in sorted(reports, key=lambda found: found.file.modified, reverse=True):
        if found.report is None:
            continue
        head = found.report.head
        for row in found.report.rows:
            which = (row["track"], head.get("separation_type"), head.get("stem_name"))
            if which in seen:
                continue
            seen.add(which)
            if scope.dag_id not in (None, head["dag_id"]) or scope.run_id not in (None, head["run_id"]):
                continue
            if not _when(found.file, scope):
                continue
            yield Candidate(
                row["track"], row.get("title"), state_of(row), row.get("message") or "",
                head.get("separation_type"), head.get("stem_name"), row.get("source"), found.file.folder, row.get("entry"),
            )  # fmt: skip


def _when(file: RunFile, scope: Scope) -> bool:
    since, until = scope.since, scope.until
    return (since is None or file.modified >= since.timestamp()) and (
        until is None or file.modified < until.timestamp()
    )


def _only_in_ledger(
    reports: Iterable[FoundReport], entries: dict[str, LedgerEntry], scope: Scope
) -> Iterable[Candidate]:
    """Give what failed and no report speaks of any more."""
    reported = {row.get("entry") for found in reports if found.report for row in found.report.rows}
    for uri, entry in entries.items():
        outcome = entry.current.outcome
        if entry.state is not EntryState.FAILED or uri in reported or outcome is None:
            continue
        if scope.covers(entry.current.asked_by, outcome.at):
            yield Candidate(
                entry.track_key, entry.title, "failed", outcome.message, entry.separation_type.value,
                entry.stem_name, entry.source, None, uri,
            )  # fmt: skip


def _has_landed(archive: Archive, candidate: Candidate, entries: dict[str, LedgerEntry]) -> bool:
    entry = entries.get(candidate.entry or "")
    if entry is None or entry.state is not EntryState.LANDED:
        return False
    # The same audio under another name may have landed, and this one not.
    return candidate.key == entry.track_key or any(
        f"/{safe_key(candidate.key)}/" in uri for uri in entry.landings if archive.destination.key_of(uri)
    )


def _planned(
    archive: Archive, candidates: Iterable[Candidate], files: Iterable[RunFile], troubles: list[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Look the tracks up in the plans of their runs: there they are as the user wrote them, signed addresses too."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for candidate in candidates:
        wanted[candidate.folder or ""].add(candidate.key)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        if file.planned is None or file.folder not in wanted:
            continue
        try:
            body = read_object(archive.client, archive.destination.bucket, file.key)
            rows = [json.loads(line) for line in body.decode().split("\n") if line.strip()]
            found |= {(file.folder, row["key"]): row for row in rows if row["key"] in wanted[file.folder]}
        except (BucketError, ValueError, KeyError, TypeError) as e:
            troubles.append(f"The plan s3://{archive.destination.bucket}/{file.key} cannot be read: {e}")
    return found


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
