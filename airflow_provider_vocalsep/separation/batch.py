"""
The job of many tracks: submitted at the vendor's rate, waited for together, landed in parallel.

Each leg is a process of its own: :meth:`BatchJob.begin` or :meth:`BatchJob.resume`, then a wait for all that
is :attr:`~BatchJob.waiting`. Between legs all state is in ledger and run report; a killed leg loses nothing.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import (
    OutOfCreditsError,
    SeparationFailedError,
    StoppedError,
    Verdict,
    VocalSepError,
)
from airflow_provider_vocalsep.landing.manifest import Manifest
from airflow_provider_vocalsep.ledger.source import source_of
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback
from airflow_provider_vocalsep.separation.polling import WaitOutcome
from airflow_provider_vocalsep.separation.runtime import BudgetSpentError
from airflow_provider_vocalsep.separation.track_job import TrackJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.runs.report import BatchReport, TrackRow
    from airflow_provider_vocalsep.separation.runtime import Runtime

log = logging.getLogger(__name__)

#: Tracks that are processed at the same time: enough to fill the vendor's window at a second a submit, and
#: to download the stems of one while those of another are checked.
PARALLEL = 8

#: Tracks between two lines of progress in the log.
_PROGRESS = 50


class BatchJob:
    """
    Runs the tracks of a batch.

    :param tracks: The tracks, with unique keys.
    :param report: The run report, which holds their states.
    :param parallel: Tracks that are processed at the same time.
    """

    def __init__(
        self, tracks: Sequence[Track], report: BatchReport, runtime: Runtime, *, parallel: int = PARALLEL
    ) -> None:
        self.tracks = {track.key: track for track in tracks}
        self.report = report
        self.runtime = runtime
        self.parallel = parallel
        #: Why no more tracks are submitted; ``None`` while they are.
        self.stopped: str | None = None
        #: Whether the account is the reason, and not the budget of this batch.
        self.out_of_credits = False
        self._done = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> dict[str, float]:
        """Submit time of each vendor task that is waited for, in epoch seconds, by its id."""
        return {
            row.vendor_task_id: row.submitted_at.timestamp()
            for row in self.report.rows_in(RowState.WAITING)
            if row.vendor_task_id and row.submitted_at
        }

    def check_destination(self) -> None:
        """Check that stems can be written, see :meth:`.LandingJob.check_destination`."""
        for track in list(self.tracks.values())[:1]:
            TrackJob(track, self.runtime).check_destination()

    def all_called_back(self) -> bool:
        """Read the callbacks again; return whether all vendor tasks waited for have called back."""
        return all(self._check_callbacks(RowState.WAITING))

    def doubt_called_back(self) -> bool:
        """Read the callbacks again; return whether any submit whose answer was lost has called back."""
        return any(self._check_callbacks(RowState.IN_DOUBT))

    def _check_callbacks(self, state: RowState) -> list[bool]:
        self.runtime.callbacks.refresh()
        return [bool(self.runtime.callbacks.events_of(row.attempt_id)) for row in self.report.rows_in(state)]

    def begin(self) -> None:
        """Start all tracks by their ledger entries: land what is separated, submit what is new."""
        self._each(self._begin, self.report.rows_in(RowState.PLANNED), "started")

    def resume(self, ended: Mapping[str, tuple[WaitOutcome, str]]) -> None:
        """
        Continue with the tracks whose vendor tasks have ended or called back, and with those in doubt.

        :param ended: Outcome and message of the wait for each vendor task that has ended.
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
        """Take a step for all rows, in parallel; those with the same audio one after the other."""
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
            self._run(lambda row: self._guarded(step, row), wave_rows, done)
            self.runtime.check_stopped()

    def _run(self, step: Callable[[TrackRow], None], rows: list[TrackRow], done: str) -> None:
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="track") as pool:
            try:
                for _ in pool.map(step, rows):
                    self._log_progress(done, len(rows))
            except BaseException:
                # The Airflow task timed out or was killed. Leaving the block waits for the threads: end them.
                self.runtime.stopped.set()
                raise

    def _log_progress(self, done: str, of: int) -> None:
        self._done += 1
        if self._done % _PROGRESS == 0 or self._done == of:
            log.info("%d of %d tracks %s.", self._done, of, done)

    def _guarded(self, step: Callable[[TrackJob], None], row: TrackRow) -> None:
        """Take a step for one track; its errors end in its row."""
        if self.stopped and row.state is RowState.PLANNED:
            row.state, row.message = RowState.LEFT, self.stopped
            return
        if self.runtime.stopped.is_set():
            return
        job = TrackJob(self.tracks[row.track], self.runtime, row)
        try:
            step(job)
        except StoppedError:
            return  # its ledger entry says where the next try continues
        except (BudgetSpentError, OutOfCreditsError) as e:
            self._stop(row, e)
        except VocalSepError as e:
            row.record_failed(e, final=not e.retryable)
            log.error("%s", e if repr(row.track) in str(e) else f"Track {row.track!r}: {e}")
        try:
            job.count_money()
        except VocalSepError as e:
            log.warning("Track %r: what it cost is not in the run report: %s", row.track, e)

    def _begin(self, job: TrackJob) -> None:
        secured = job.secure()
        if isinstance(secured, AwaitingCallback):
            log.warning("%s", secured.message)
        elif not isinstance(secured, Manifest) and (job.called_back or not secured.submitted_now):
            self._poll(job)  # it may have ended already

    def _end(self, job: TrackJob, outcome: WaitOutcome, message: str) -> None:
        if outcome in (WaitOutcome.UNKNOWN, WaitOutcome.REFUSED, WaitOutcome.GAVE_UP):
            job.row.state, job.row.message = RowState.FAILED, message
            job.row.final = False  # attaching costs nothing
            job.stop_waiting(message)
        else:
            self._poll(job)

    def _poll(self, job: TrackJob) -> None:
        """Read the vendor's record; land a finished task, submit a failed one again if that may succeed."""
        try:
            task = job.poll()
        except SeparationFailedError as e:
            if e.verdict is Verdict.FATAL:
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
