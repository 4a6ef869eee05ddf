"""
Many tracks in one process: secured in the vendor's pace, waited for together, landed side by side.

One leg of a batch is one process: :meth:`BatchJob.begin` or :meth:`BatchJob.resume`, then somebody waits for
what is
:attr:`~BatchJob.waiting`. Between legs everything is in the ledger and the report; a leg that dies loses
nothing.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import OutOfCreditsError, SeparationFailedError, VocalSepError
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger.source import source_of
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.separation.runtime import BudgetSpentError
from airflow_provider_vocalsep.separation.track_job import LandingJob, TrackJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow
    from airflow_provider_vocalsep.separation.runtime import Runtime

log = logging.getLogger(__name__)

#: Tracks that are under way at the same time: enough to fill the vendor's window at a second a submit, and to
#: keep a connection busy while another one's stems are being checked.
PARALLEL = 8

#: Tracks between two lines of progress in the log.
_PROGRESS = 50


class BatchJob:
    """
    Runs the tracks of a batch.

    :param tracks: The tracks; keys are unique.
    :param report: Where their states are kept.
    :param runtime: What they work with.
    :param parallel: Tracks under way at the same time.
    """

    def __init__(
        self, tracks: Sequence[Track], report: BatchReport, runtime: Runtime, *, parallel: int = PARALLEL
    ) -> None:
        self.tracks = {track.key: track for track in tracks}
        self.report = report
        self.runtime = runtime
        self.parallel = parallel
        #: Why no more tracks are claimed, once that is so.
        self.stopped: str | None = None
        #: Whether that is because of the account, and not of this batch's own budget.
        self.out_of_credits = False
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

    def check_destination(self) -> None:
        """Check that stems can be written, see :meth:`LandingJob.check_destination`."""
        for track in list(self.tracks.values())[:1]:
            LandingJob(track, self.runtime).check_destination()

    def all_called_back(self) -> bool:
        """Read the callbacks again; return whether one has come for every vendor task waited for."""
        return all(self._called_back(RowState.WAITING))

    def doubt_called_back(self) -> bool:
        """Read the callbacks again; return whether one has come for a submit whose answer was lost."""
        return any(self._called_back(RowState.IN_DOUBT))

    def _called_back(self, state: RowState) -> list[bool]:
        self.runtime.callbacks.refresh()
        return [bool(self.runtime.callbacks.events_of(row.attempt_id)) for row in self.report.rows_in(state)]

    def begin(self) -> None:
        """Go through all tracks, by what the ledger says of each: land what is done, submit what is new."""
        self._each(self._begin, self.report.rows_in(RowState.PLANNED), "started")

    def resume(self, ended: Mapping[str, tuple[WaitOutcome, str]]) -> None:
        """
        Go on with what has ended or was called back about, and with what is in doubt.

        :param ended: How the wait for each vendor task ended, and the message about it.
        """
        rows = [
            row
            for row in self.report.rows_in(RowState.WAITING)
            if row.vendor_task_id in ended or self.runtime.callbacks.events_of(row.attempt_id)
        ]

        def end(job: TrackJob) -> None:
            self._end(job, *ended.get(job.row.vendor_task_id or "", (WaitOutcome.CALLED_BACK, "")))

        self._each(end, rows, "continued")
        self._each(self._begin, self.report.rows_in(RowState.IN_DOUBT), "checked again")

    def _each(self, step: Callable[[TrackJob], None], rows: Iterable[TrackRow], done: str) -> None:
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
                for _ in pool.map(lambda row: self._guarded(step, row), wave_rows):
                    self._log_progress(done, len(wave_rows))

    def _log_progress(self, done: str, of: int) -> None:
        self._done += 1
        if self._done % _PROGRESS == 0 or self._done == of:
            log.info("%d of %d tracks %s.", self._done, of, done)

    def _guarded(self, step: Callable[[TrackJob], None], row: TrackRow) -> None:
        """Take a step for one track; what goes wrong with it ends in its row."""
        if self.stopped and row.vendor_task_id is None:
            row.state, row.message = RowState.LEFT, self.stopped
            return
        job = TrackJob(self.tracks[row.track], self.runtime, row)
        try:
            step(job)
        except (BudgetSpentError, OutOfCreditsError) as e:
            self._stop(row, e)
        except VocalSepError as e:
            row.record_failed(e, final=not e.retryable)
            named = repr(row.track) in str(e)
            log.error("%s", e if named else f"Track {row.track!r}: {e}")
        try:
            job.count_money()
        except VocalSepError as e:
            log.warning("Track %r: what it cost is not in the run report: %s", row.track, e)

    def _begin(self, job: TrackJob) -> None:
        secured = job.secure()
        if isinstance(secured, AwaitingCallback):
            log.warning("%s", secured.message)
        elif not isinstance(secured, Manifest) and (job.called_back or not secured.submitted_now):
            self._look(job)  # the vendor may be done already

    def _end(self, job: TrackJob, outcome: WaitOutcome, message: str) -> None:
        if outcome in (WaitOutcome.UNKNOWN, WaitOutcome.REFUSED, WaitOutcome.GAVE_UP):
            job.row.state, job.row.message = RowState.FAILED, message
            job.row.final = outcome is not WaitOutcome.GAVE_UP
            job.stop_waiting(message)
        else:
            self._look(job)

    def _look(self, job: TrackJob) -> None:
        """Read the vendor's record; land a finished task, submit a failed one again where it may help."""
        try:
            task = job.look()
        except SeparationFailedError as e:
            if not e.retryable:
                raise
            log.warning("%s Submitting it again.", e)
            self._begin(job)
            return
        if task is not None:
            job.land(task)

    def _stop(self, row: TrackRow, why: VocalSepError) -> None:
        row.state, row.message = RowState.LEFT, str(why)
        with self._lock:
            if self.stopped is None:
                self.stopped, self.out_of_credits = str(why), isinstance(why, OutOfCreditsError)
                log.warning("No more tracks are submitted: %s", why)
