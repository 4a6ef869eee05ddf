"""Landing of vendor tasks that somebody else submitted."""

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
from airflow_provider_vocalsep.landing.land import check_destination
from airflow_provider_vocalsep.ledger import TaskInstanceRef
from airflow_provider_vocalsep.links.page import PageLink, track_page
from airflow_provider_vocalsep.links.stems import StemsLink, stems_url
from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.observability.lineage import (
    Dataset,
    Lineage,
    LineageMixin,
    report_hook_lineage,
    stem_datasets,
)
from airflow_provider_vocalsep.operators._runtime import (
    lander_of,
    raise_for_airflow,
    s3_client_of,
    task_instance_ref,
)
from airflow_provider_vocalsep.operators.reporting import Reporting
from airflow_provider_vocalsep.runs.report_file import ReportFile
from airflow_provider_vocalsep.separation.track_job import UnknownTaskError
from airflow_provider_vocalsep.separation.track_report import TrackReport
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.models import SeparationTask


class NotFinishedError(VocalSepError):
    """The vendor task has not ended yet."""


class VocalSeparationToS3Operator(LineageMixin, BaseOperator):
    """
    Land the stems of a vendor task that somebody else submitted.

    Streams each stem with constant memory, checks it, and writes ``manifest.json`` last; what is there already is
    not sent again. Put a :class:`~airflow_provider_vocalsep.sensors.vocal_separation.VocalSeparationSensor` before
    it when the task may not have ended yet.

    :param vendor_task_id: The id that the submit returned. (templated)
    :param track_key: Name under which the stems land; the vendor task id by default. (templated)
    :param destination: ``s3://bucket/prefix``, see
        :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationOperator`. (templated)
    :param separation_type: What the task was submitted with. (templated)
    :param stem_name: What the task was submitted with, for ``split_stem_advanced``. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param replace: Whether to send stems again that are there already.
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
        reporting = Reporting()
        with reporting.leg(context, str(self.separation_type)):
            try:
                return self._land(context, reporting)
            except VocalSepError as e:
                raise_for_airflow(e)

    def _land(self, context: Context, reporting: Reporting) -> dict[str, Any]:
        # The audio's address plays no part in landing; the task id stands for it.
        track = Track(key=self._key, task_id=self.vendor_task_id, audio_id=self.vendor_task_id)
        place = Location.parse(self.destination).stems(
            track.key, parse_separation_type(self.separation_type), self.stem_name
        )
        client, asked_by = s3_client_of(self.aws_conn_id), task_instance_ref(context)
        file = ReportFile(client, self.destination, asked_by, place.separation_type, self.stem_name)
        reporting.report = TrackReport(file, track, shown_source=False)
        reporting.report.row.vendor_task_id = self.vendor_task_id
        check_destination(client, place, upload_args=self.upload_args)
        task = self._read()
        vendor = self.hook.settings.base_url
        self.lineage = Lineage(
            inputs=(Dataset(vendor, task.task_id),), vendor=vendor, vendor_task_id=task.task_id
        )
        manifest = lander_of(self.hook.settings, client, self.upload_args).land(
            task,
            place,
            track=track,
            dialect=self.hook.settings.dialect.name,
            refresh=self._read,
            asked_by=asked_by.model_dump(exclude_none=True),
            replace=self.replace,
        )
        self.stems_link = stems_url(client, place.bucket, place.prefix)
        self.lineage = self.lineage.with_stems(manifest)
        report_hook_lineage(self.aws_conn_id, outputs=stem_datasets(manifest))
        self.log.info(
            "Landed %d stems of vendor task %s: %s", len(manifest.stems), task.task_id, manifest.uri
        )
        landed_by = TaskInstanceRef.model_validate(manifest.asked_by)
        if landed_by == asked_by:
            metrics.count_transfer(manifest, asked_by, self.hook.settings.account)
        reporting.report.landed(manifest, before=landed_by.instance != asked_by.instance)
        return manifest.summary()

    def _read(self) -> SeparationTask:
        task = self.hook.read_task(self.vendor_task_id)
        if task is None:
            raise UnknownTaskError(
                f"The vendor does not know task {self.vendor_task_id}. Check the id, and that the connection's key "
                "belongs to the account that submitted it."
            )
        if task.failed:
            raise SeparationFailedError(
                f"The vendor gave up task {self.vendor_task_id}: {task.error_code or task.status}, "
                f"{task.error_message or 'no reason given'}. There is nothing to land.",
                verdict=classify_task(task, self.hook.settings.dialect),
                code=task.error_code,
                vendor_message=task.error_message or "",
            )
        if not task.finished:
            raise NotFinishedError(
                f"Vendor task {self.vendor_task_id} is still {task.status}: put a VocalSeparationSensor before this "
                "Airflow task. A retry looks again."
            )
        return task
