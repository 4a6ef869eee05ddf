"""
Many tracks in one process: secured in the vendor's pace, waited for together, landed side by side.

One leg of a batch is one process: :meth:`BatchJob.begin` or :meth:`BatchJob.resume`, then somebody waits for what is
:attr:`~BatchJob.waiting`. Between legs everything is in the ledger and the report; a leg that dies loses nothing.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SeparationFailedError,
    VendorError,
    Verdict,
    VocalSepError,
)
from airflow_provider_vocalsep.ledger.entry import source_of
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.polling import WaitOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup
    from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow
    from airflow_provider_vocalsep.separation.track_work import TrackWork

log = logging.getLogger(__name__)

#: Tracks that are under way at the same time: enough to fill the vendor's window at a second a submit, and to keep a
#: connection busy while another one's stems are being checked.
PARALLEL = 8

#: Tracks between two lines of progress in the log.
_PROGRESS = 50


class BudgetSpentError(VocalSepError):
    """The credits of this batch are used up."""


class Budget:
    """
    Credits that a batch may spend.

    :param credits: How many; ``None`` for any number.
    :param price: What one submission costs.
    """

    def __init__(self, credits: float | None, price: float) -> None:
        self.left = credits
        self.price = price
        self._lock = threading.Lock()

    def take(self) -> None:
        """
        Set the price of one submission aside.

        :raises BudgetSpentError: there is not as much left.
        """
        with self._lock:
            if self.left is None:
                return
            if self.left < self.price:
                raise BudgetSpentError("max_credits is used up; nothing was submitted.")
            self.left -= self.price


class BatchJob:
    """
    Runs the tracks of a batch.

    :param tracks: The tracks; keys are unique.
    :param report: Where their states are kept.
    :param open_work: Gives what a track needs; called in several threads.
    :param heard: Tells the callbacks that came for an attempt.
    :param parallel: Tracks under way at the same time.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        report: BatchReport,
        open_work: Callable[[Track], TrackWork],
        *,
        heard: CallbackLookup,
        parallel: int = PARALLEL,
    ) -> None:
        self.tracks = {track.key: track for track in tracks}
        self.report = report
        self.open_work = open_work
        self.heard = heard
        self.parallel = parallel
        #: Why no more tracks are claimed, once that is so.
        self.stopped: str | None = None
        #: Whether that is because of the account, and not of this batch's own budget.
        self.out_of_credits = False
        self._works: dict[str, TrackWork] = {}
        self._done = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> dict[str, float]:
        """When each vendor task that is waited for was submitted, in epoch seconds, by its id."""
        return {
            row.vendor_task_id: row.submitted_at.timestamp()
            for row in self.report.rows_in(RowState.WAITING)
            if row.vendor_task_id and row.submitted_at
        }

    def begin(self) -> None:
        """Go through all tracks, by what the ledger says of each: land what is done, submit what is new."""
        self._each(self._begin, self.report.rows_in(RowState.PLANNED), "looked at")

    def resume(self, ended: Mapping[str, tuple[WaitOutcome, str]]) -> None:
        """
        Go on with what has ended or was called back about, and with what is in doubt.

        :param ended: How the wait for each vendor task ended, and the words for it.
        """
        rows = [
            row
            for row in self.report.rows_in(RowState.WAITING)
            if row.vendor_task_id in ended or self.heard(row.attempt_id)
        ]
        self._each(lambda row: self._end(row, ended.get(row.vendor_task_id or "")), rows, "gone on with")
        self._each(self._begin, self.report.rows_in(RowState.IN_DOUBT), "looked at again")

    def _each(self, step: Callable[[TrackRow], None], rows: Iterable[TrackRow], what: str) -> None:
        """Take a step for all rows, side by side; those with the same audio one after the other."""
        waves: list[list[TrackRow]] = []
        seen: dict[str, int] = {}
        for row in rows:
            source = source_of(self.tracks[row.track])
            wave = seen.get(source, -1) + 1
            seen[source] = wave
            waves += [[] for _ in range(wave + 1 - len(waves))]
            waves[wave].append(row)
        for wave_rows in waves:
            self._done = 0
            with ThreadPoolExecutor(self.parallel, thread_name_prefix="track") as pool:
                for _ in pool.map(lambda row: self._guarded(step, row, what, len(wave_rows)), wave_rows):
                    pass

    def _guarded(self, step: Callable[[TrackRow], None], row: TrackRow, what: str, of: int) -> None:
        try:
            step(row)
        except AwaitingCallback as e:
            row.state, row.attempt_id, row.until = RowState.IN_DOUBT, e.attempt_id, e.until
            row.message = str(e)
            log.warning("%s", e)
        except (BudgetSpentError, OutOfCreditsError) as e:
            self._stop(row, e)
        except VocalSepError as e:
            self._fail(row, e)
        self._count_money(row)
        with self._lock:
            self._done += 1
            if self._done % _PROGRESS == 0 or self._done == of:
                log.info("%d of %d tracks %s.", self._done, of, what)

    def _count_money(self, row: TrackRow) -> None:
        """Take over from the ledger what was paid: it knows of legs and tries that died before they reported."""
        work = self._works.pop(row.track, None)
        if work is None:
            return
        try:
            row.paid, row.credits = work.job.paid()
        except VocalSepError as e:
            log.warning("Track %r: what it cost is not in the run report: %s", row.track, e)

    def _begin(self, row: TrackRow) -> None:
        if self.stopped:
            row.state, row.message = RowState.LEFT, self.stopped
            return
        self._secure(row, self._open(row))

    def _open(self, row: TrackRow) -> TrackWork:
        work = self.open_work(self.tracks[row.track])
        row.entry = work.job.entry
        self._works[row.track] = work
        return work

    def _secure(self, row: TrackRow, work: TrackWork) -> None:
        secured, manifest = work.secure()
        row.vendor_task_id, row.submitted_at = secured.vendor_task_id, secured.submitted_at
        row.attempt_id, row.until, row.message = secured.attempt_id, None, None
        row.calls_back = secured.calls_back
        row.submits += secured.submitted_now
        if manifest is not None:
            if self.heard(secured.attempt_id):
                work.job.keep_callbacks(self.heard)
            self._landed(row, manifest, before=not work.job.is_ours(manifest))
            return
        row.state = RowState.WAITING
        if not secured.submitted_now or self.heard(secured.attempt_id):
            # The vendor may be done already.
            task = work.read(secured.vendor_task_id)
            if task.finished or task.failed:
                self._finish(row, work, task)

    def _end(self, row: TrackRow, ended: tuple[WaitOutcome, str] | None) -> None:
        outcome, message = ended or (WaitOutcome.CALLED_BACK, "")
        work = self._open(row)
        if outcome in (WaitOutcome.UNKNOWN, WaitOutcome.REFUSED, WaitOutcome.GAVE_UP):
            row.state, row.message = RowState.FAILED, message
            row.final = outcome is not WaitOutcome.GAVE_UP
            work.job.wait_ended(message)
            return
        task = work.read(row.vendor_task_id or "")
        if task.finished or task.failed:
            self._finish(row, work, task)

    def _finish(self, row: TrackRow, work: TrackWork, task: SeparationTask) -> None:
        try:
            manifest = work.finish(task, self.heard)
        except SeparationFailedError as e:
            if e.verdict is Verdict.FATAL:
                raise
            log.warning("%s Submitting it anew.", e)
            self._secure(row, work)
            return
        self._landed(row, manifest)

    @staticmethod
    def _landed(row: TrackRow, manifest: Manifest, *, before: bool = False) -> None:
        row.state, row.before, row.message = RowState.LANDED, before, None
        row.manifest, row.stems = manifest.uri, len(manifest.stems)
        row.bytes = sum(stem.bytes for stem in manifest.stems)

    def _fail(self, row: TrackRow, error: VocalSepError) -> None:
        row.state, row.message, row.final = RowState.FAILED, str(error), not error.retryable
        row.code = error.code if isinstance(error, VendorError) else None
        named = repr(row.track) in row.message
        log.error("%s", row.message if named else f"Track {row.track!r}: {row.message}")

    def _stop(self, row: TrackRow, why: VocalSepError) -> None:
        row.state, row.message = RowState.LEFT, str(why)
        if self.stopped is None:
            self.stopped, self.out_of_credits = str(why), isinstance(why, OutOfCreditsError)
            log.warning("No more tracks are submitted: %s", why)
