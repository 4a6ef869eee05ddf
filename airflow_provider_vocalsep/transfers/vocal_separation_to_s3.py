"""The operator that lands a vendor task which was submitted elsewhere."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_vocalsep.api.codes import classify_task
from airflow_provider_vocalsep.api.errors import SeparationFailedError, VocalSepError
from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook
from airflow_provider_vocalsep.ledger import TaskInstanceRef
from airflow_provider_vocalsep.links.page import PageLink, track_page
from airflow_provider_vocalsep.links.stems import StemsLink
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.observability.lineage import (
    Dataset,
    Lineage,
    LineageMixin,
    report_hook_lineage,
    stem_datasets,
)
from airflow_provider_vocalsep.operators._runtime import Stoppable, open_landing, track_leg
from airflow_provider_vocalsep.runs.report import TrackRow
from airflow_provider_vocalsep.separation.runtime import SeparationOptions
from airflow_provider_vocalsep.separation.track_job import LandingJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.landing.manifest import Manifest


class NotFinishedError(VocalSepError):
    """The vendor task has not ended."""


class VocalSeparationToS3Operator(Stoppable, LineageMixin, BaseOperator):
    """
    Land the stems of a vendor task that another Airflow task or program has submitted.

    Streams each stem with constant memory, checks it, and writes ``manifest.json`` last; stems that are in
    place are not sent again. If the vendor task may not have ended yet, put a
    :class:`~airflow_provider_vocalsep.sensors.vocal_separation.VocalSeparationSensor` before this operator.

    :param vendor_task_id: The id that the submit returned. (templated)
    :param track_key: Name under which the stems land; the vendor task id by default. (templated)
    :param destination: ``s3://bucket/prefix``, see
        :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationOperator`. (templated)
    :param separation_type: The separation type of the submit. (templated)
    :param stem_name: The stem name of the submit, for ``split_stem_advanced``. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param replace: Whether to send stems again that are in place.
    :param upload_args: Extra arguments of every upload. (templated)
    :return: The manifest's summary (URIs, sizes, digests).
    """

    template_fields: Sequence[str] = (
        "vendor_task_id",
        "track_key",
        "destination",
        "separation_type",
        "stem_name",
        "vocalsep_conn_id",
        "aws_conn_id",
        "upload_args",
    )
    template_fields_renderers = {"upload_args": "json"}
    operator_extra_links = (StemsLink(), PageLink())
    stems_link = ""
    lineage: Lineage = Lineage()
    ui_color = "#e4f0ff"

    def __init__(
        self,
        *,
        vendor_task_id: str,
        destination: str,
        track_key: str | None = None,
        separation_type: str = SeparationType.SEPARATE_VOCAL.value,
        stem_name: str | None = None,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        replace: bool = False,
        upload_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vendor_task_id = vendor_task_id
        self.destination = destination
        self.track_key = track_key
        self.separation_type = separation_type
        self.stem_name = stem_name
        self.vocalsep_conn_id = vocalsep_conn_id
        self.aws_conn_id = aws_conn_id
        self.replace = replace
        self.upload_args = upload_args

    @cached_property
    def hook(self) -> VocalSeparationHook:
        """The hook of ``vocalsep_conn_id``."""
        return VocalSeparationHook(self.vocalsep_conn_id)

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the track, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return track_page(ti, self._key)

    @property
    def _key(self) -> str:
        return str(self.track_key or self.vendor_task_id).strip()

    def execute(self, context: Context) -> dict[str, Any]:
        """Land the stems."""
        with track_leg(self, context, lambda: self._open(context), track_key=None) as job:
            task = self._read_finished(job)
            vendor = self.hook.settings.base_url
            self.lineage = Lineage(
                inputs=(Dataset(vendor, task.task_id),), vendor=vendor, vendor_task_id=task.task_id
            )
            return self._finish(job, job.land(task))

    def _open(self, context: Context) -> LandingJob:
        options = SeparationOptions(
            parse_separation_type(self.separation_type), self.stem_name, replace=self.replace
        )
        # Landing does not need the audio; the vendor task stands for it.
        track = Track(key=self._key, task_id=self.vendor_task_id, audio_id=self.vendor_task_id)
        row = TrackRow(track=track.key, vendor_task_id=self.vendor_task_id)
        return LandingJob(track, open_landing(self, options, context), row)

    def _finish(self, job: LandingJob, manifest: Manifest) -> dict[str, Any]:
        assert job.location  # noqa: S101 - it has landed
        self.stems_link = job.runtime.landing.store.console_url(job.location)
        self.lineage = self.lineage.with_stems(manifest)
        report_hook_lineage(self.aws_conn_id, outputs=stem_datasets(manifest))
        self.log.info(
            "Landed %d stems of vendor task %s: %s",
            len(manifest.stems),
            manifest.vendor_task_id,
            manifest.uri,
        )
        asked_by = job.runtime.asked_by
        if TaskInstanceRef.model_validate(manifest.asked_by) == asked_by:
            metrics.count_transfer(manifest, asked_by, self.hook.settings.account)
        return manifest.summary()

    def _read_finished(self, job: LandingJob) -> SeparationTask:
        task = job.read_record(self.vendor_task_id)
        if task.failed:
            raise SeparationFailedError(
                f"The vendor failed task {self.vendor_task_id}: {task.error_code or task.status}, "
                f"{task.error_message or 'no reason given'}. There is nothing to land.",
                verdict=classify_task(task, self.hook.settings.dialect),
                code=task.error_code,
                vendor_message=task.error_message or "",
            )
        if not task.finished:
            raise NotFinishedError(
                f"Vendor task {self.vendor_task_id} is still {task.status}: put a VocalSeparationSensor "
                "before this Airflow task. A retry reads its record again."
            )
        return task
