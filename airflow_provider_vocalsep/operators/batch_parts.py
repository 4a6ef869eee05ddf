"""What one leg of a batch works with."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.api.vocabulary import CREDITS, SeparationType
from airflow_provider_vocalsep.callbacks.channel import callback_channel, callback_event, read_batch_inbox
from airflow_provider_vocalsep.catalogue.errors import CatalogueError
from airflow_provider_vocalsep.client.pace import submit_gate
from airflow_provider_vocalsep.landing.land import check_destination
from airflow_provider_vocalsep.operators._runtime import (
    lander_of,
    ledger_of,
    s3_client_of,
    task_instance_ref,
)
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.separation.batch import BatchJob, Budget
from airflow_provider_vocalsep.separation.own_file import prepare_file
from airflow_provider_vocalsep.separation.submitting import OnLostSubmit, Submitter
from airflow_provider_vocalsep.separation.track_job import Separation, SeparationJob
from airflow_provider_vocalsep.separation.track_work import TrackWork
from airflow_provider_vocalsep.storage.location import Location, StemLocation, parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
    from airflow_provider_vocalsep.ledger import Event
    from airflow_provider_vocalsep.runs.report import BatchReport

log = logging.getLogger(__name__)


def read_chunk(uri: str, aws_conn_id: str | None) -> list[dict[str, Any]]:
    """
    Read a chunk file.

    :param uri: ``s3://`` address of JSON Lines.
    :raises CatalogueError: it is not there or not one.
    """
    bucket, key = parse_s3_uri(uri)
    try:
        body = s3_client_of(aws_conn_id).get_object(Bucket=bucket, Key=key)["Body"].read()
        return [json.loads(line) for line in body.decode().split("\n") if line.strip()]
    except (ClientError, BotoCoreError, ValueError) as e:
        raise CatalogueError(
            f"The chunk of tracks {uri} could not be read: {e} Nothing was submitted."
        ) from e


class BatchParts:
    """
    See the arguments of :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationBatchOperator`.

    :param context: The Airflow context.
    :param tracks: The tracks.
    :param hook: The hook of the vendor account.
    """

    def __init__(
        self,
        context: Context,
        *,
        tracks: Sequence[Track],
        destination: str,
        separation_type: SeparationType,
        stem_name: str | None,
        ledger: str | None,
        hook: VocalSeparationHook,
        aws_conn_id: str | None,
        upload_args: dict[str, Any] | None,
        parallel: int,
    ) -> None:
        self.context = context
        self.tracks = tracks
        self.destination = destination
        self.separation_type = separation_type
        self.stem_name = stem_name
        self.hook = hook
        self.upload_args = upload_args
        self.parallel = parallel
        self.asked_by = task_instance_ref(context)
        self.s3_client = s3_client_of(aws_conn_id)
        self.ledger = ledger_of(ledger, destination, s3_client=self.s3_client, context=context)
        self.lander = lander_of(hook.settings, self.s3_client, upload_args, max_parallel=parallel)
        self.report_file = ReportFile(self.s3_client, destination, self.asked_by, separation_type, stem_name)
        self._inbox = read_batch_inbox(context)

    @property
    def calls_back(self) -> bool:
        """Whether the vendor calls back."""
        return self.hook.settings.callback_base_url is not None

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """Where the stems land."""
        bucket, prefix = parse_s3_uri(self.destination)
        return bucket, prefix.strip("/")

    @property
    def report_uri(self) -> str:
        """Address of the run report."""
        return self.report_file.uri

    def check_destination(self) -> None:
        """Make sure, before anything is paid, that stems can be written."""
        check_destination(self.s3_client, self.place(self.tracks[0]), upload_args=self.upload_args)

    def read_report(self) -> BatchReport | None:
        """Read what an earlier leg or try of this task instance left."""
        return self.report_file.read()

    def write_report(self, report: BatchReport) -> None:
        """Write the run report."""
        self.report_file.write(report)

    def has_heard_of_all(self, job: BatchJob) -> bool:
        """Look once more what came in: whether all that is waited for has been called back about."""
        self._inbox.update(read_batch_inbox(self.context))
        return all(row.attempt_id in self._inbox for row in job.report.rows_in(RowState.WAITING))

    def has_heard_of_a_doubt(self, job: BatchJob) -> bool:
        """Look once more what came in: whether something in doubt has been called back about."""
        self._inbox.update(read_batch_inbox(self.context))
        return any(row.attempt_id in self._inbox for row in job.report.rows_in(RowState.IN_DOUBT))

    def job(
        self,
        report: BatchReport,
        *,
        credits: float | None,
        replace: bool,
        on_lost_submit: OnLostSubmit,
        adoption_grace: float,
        max_submissions: int,
    ) -> BatchJob:
        """Put the job together."""
        settings = self.hook.settings
        gate = submit_gate(settings.base_url, settings.account, settings.submit_rate)
        price = CREDITS[self.separation_type]
        spent = price * sum(row.submits for row in report.rows.values())
        budget = Budget(None if credits is None else credits - spent, price)
        line = callback_channel(
            self.context,
            settings,
            conn_id=self.hook.vocalsep_conn_id,
            asked_by=self.asked_by,
            grace=adoption_grace,
            inbox=self._inbox,
        )

        def open_work(track: Track) -> TrackWork:
            source = prepare_file(track, self.s3_client)
            separation = Separation(
                asked=track,
                track=source.track,
                separation_type=self.separation_type,
                stem_name=self.stem_name,
                account=settings.account,
                fingerprint=source.fingerprint,
            )
            place = self.place(track)
            return TrackWork(
                SeparationJob(
                    separation,
                    vendor=self.hook.client,
                    ledger=self.ledger,
                    asked_by=self.asked_by,
                    max_submissions=max_submissions,
                ),
                Submitter(
                    separation,
                    vendor=self.hook.client,
                    ledger=self.ledger,
                    asked_by=self.asked_by,
                    manifest_uri=place.manifest_uri,
                    on_lost_submit=on_lost_submit,
                    line=line,
                    gate=gate,
                    before_paying=budget.take,
                ),
                place,
                self.lander,
                replace,
            )

        return BatchJob(self.tracks, report, open_work, heard=self._heard, parallel=self.parallel)

    def _heard(self, attempt_id: str) -> list[Event]:
        return [callback_event(heard, attempt_id, self.asked_by) for heard in self._inbox.get(attempt_id, [])]

    def place(self, track: Track) -> StemLocation:
        """Return where a track's stems belong."""
        return Location.parse(self.destination).stems(track.key, self.separation_type, self.stem_name)
