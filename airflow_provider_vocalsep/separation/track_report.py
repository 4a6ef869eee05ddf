"""The run report of a task instance with a single track: the same file that a batch writes, with one row."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VendorError
from airflow_provider_vocalsep.ledger.entry import source_of
from airflow_provider_vocalsep.runs.report import BatchReport, RowState, TrackRow

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.runs.report_file import ReportFile
    from airflow_provider_vocalsep.separation.submitting import Submission
    from airflow_provider_vocalsep.separation.track_job import SeparationJob

log = logging.getLogger(__name__)


class TrackReport:
    """
    Keeps the report of one track. It is an account only: what goes wrong with it is logged and changes nothing.

    :param file: Where it lies.
    :param track: The track.
    :param job: Its separation, from which what it cost is known; ``None`` for one that somebody else paid for.
    :param shown_source: Whether the track's ids are its audio's; a transfer knows only the vendor task.
    """

    def __init__(
        self, file: ReportFile, track: Track, job: SeparationJob | None = None, *, shown_source: bool = True
    ) -> None:
        self.file = file
        self.job = job
        self.row = TrackRow(
            track=track.key,
            title=track.title,
            entry=job.entry if job else None,
            source=source_of(track) if shown_source else None,
        )

    def secured(self, secured: Submission) -> None:
        """Take note of what is paid for; nothing is written yet."""
        self.row.vendor_task_id, self.row.attempt_id = secured.vendor_task_id, secured.attempt_id
        self.row.submitted_at = secured.submitted_at

    def waiting(self, *, concluded: bool = False) -> None:
        """
        Say that the vendor is at it.

        :param concluded: The Airflow task ends here, and leaves the rest to others.
        """
        self.row.state = RowState.WAITING if self.row.vendor_task_id else RowState.IN_DOUBT
        self._write(concluded=concluded)

    def landed(self, manifest: Manifest, *, before: bool = False) -> None:
        """
        Say what landed.

        :param before: Somebody else had landed it.
        """
        row = self.row
        row.state, row.before, row.vendor_task_id = RowState.LANDED, before, manifest.vendor_task_id
        row.manifest, row.stems = manifest.uri, len(manifest.stems)
        row.bytes = sum(stem.bytes for stem in manifest.stems)
        self._write(concluded=True)

    def failed(self, error: BaseException, *, final: bool, concluded: bool) -> None:
        """
        Say that it came to nothing.

        :param error: What went wrong, or what Airflow was told of it.
        :param final: A retry would meet the same.
        :param concluded: Airflow does not retry.
        """
        cause = error if isinstance(error, VendorError) else error.__cause__
        self.row.code = cause.code if isinstance(cause, VendorError) else None
        self.row.state, self.row.message, self.row.final = RowState.FAILED, str(error), final
        self._write(concluded=concluded)

    def _write(self, *, concluded: bool) -> None:
        try:
            if self.job:
                self.row.paid, self.row.credits = self.job.paid()
                self.row.submits = self.row.paid
            self.file.write(BatchReport([self.row], concluded=concluded))
        except Exception as e:
            log.warning("The run report %s was not written, which changes nothing: %s", self.file.uri, e)
