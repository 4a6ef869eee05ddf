"""Lineage: the datasets that an operator reads and writes, for OpenLineage and for Airflow's hook lineage."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.landing.manifest import describe_track
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.storage.location import parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.runs.report import BatchReport

log = logging.getLogger(__name__)

#: Tracks of a batch, or chunks of a plan, up to which each file is a dataset; above, their folder is.
MAX_LISTED = 20


@dataclass(frozen=True)
class Dataset:
    """
    A dataset, by OpenLineage's naming.

    :param namespace: ``s3://bucket``, or scheme and host.
    :param name: Key or path, without a slash in front.
    :param bytes: Size, if it was written.
    :param files: Number of files, if it was written.
    """

    namespace: str
    name: str
    bytes: int | None = None
    files: int | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def at(cls, uri: str, **size: int) -> Dataset:
        """
        Return the dataset at an address, without its credentials and its query, which may sign it.

        :param uri: ``s3://bucket/key``, or a URL.
        :param size: ``bytes`` and ``files``.
        """
        if uri.startswith("s3://"):
            bucket, key = parse_s3_uri(uri)
            return cls(f"s3://{bucket}", key.strip("/") or "/", **size)
        parts = urlsplit(uri)
        return cls(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/") or "/", **size
        )

    @classmethod
    def of_track(cls, track: Track, base_url: str) -> Dataset:
        """
        Return the audio of a track.

        :param base_url: Address of the vendor's API, the namespace of generated tracks.
        """
        url = describe_track(track)["audio_url"]
        return cls.at(url) if url else cls(base_url, f"{track.task_id}/{track.audio_id}")


def stem_datasets(manifest: Manifest) -> list[Dataset]:
    """Return the stems of a manifest."""
    return [Dataset.at(stem.uri, bytes=stem.bytes, files=1) for stem in manifest.stems]


@dataclass(frozen=True)
class Lineage:
    """
    The lineage of one task instance.

    :param inputs: What it reads.
    :param outputs: What it writes.
    :param vendor: Address of the vendor's API.
    :param vendor_task_id: The vendor task, if it is about one.
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    vendor: str = ""
    vendor_task_id: str | None = None

    def with_stems(self, manifest: Manifest) -> Lineage:
        """Add the stems of a manifest as outputs."""
        return replace(self, outputs=tuple(stem_datasets(manifest)), vendor_task_id=manifest.vendor_task_id)

    def facets(self) -> OperatorLineage[Any, Any]:
        """Return it in OpenLineage's classes."""
        from airflow.providers.common.compat.openlineage.facet import ExternalQueryRunFacet, InputDataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        facets = {}
        if self.vendor_task_id:
            facets["externalQuery"] = ExternalQueryRunFacet(
                externalQueryId=self.vendor_task_id, source=self.vendor
            )
        return OperatorLineage(
            inputs=[InputDataset(dataset.namespace, dataset.name) for dataset in self.inputs],
            outputs=[_output_dataset(dataset) for dataset in self.outputs],
            run_facets=facets,
        )


@dataclass(frozen=True)
class BatchLineage:
    """
    The lineage of a batch.

    :param report: Its run report.
    :param tracks: Its tracks.
    :param chunk: Address of the chunk file, if its tracks came from one.
    :param destination: ``s3://bucket/prefix`` under which the stems land.
    :param vendor: Address of the vendor's API.
    :param read_manifest: Reads the manifest of a track; called for OpenLineage only.
    """

    report: BatchReport
    tracks: Sequence[Track]
    chunk: str | None
    destination: str
    vendor: str
    read_manifest: Callable[[Track], Manifest | None]

    def summary(self) -> Lineage:
        """Return it with all that landed as one dataset, the destination."""
        totals = self.report.totals()
        landed = Dataset.at(self.destination, bytes=totals["bytes"], files=totals["stems"])
        return Lineage(inputs=self._inputs, outputs=(landed,) if totals["landed"] else ())

    def facets(self) -> OperatorLineage[Any, Any]:
        """
        Return it in OpenLineage's classes.

        Up to :data:`MAX_LISTED` tracks, it lists each track and each stem; above, chunk and destination.
        """
        if len(self.report.rows) > MAX_LISTED:
            return self.summary().facets()
        try:
            return self._list_files().facets()
        except VocalSepError as e:
            log.info("Reporting the stems to OpenLineage as one dataset: %s", e)
            return self.summary().facets()

    @property
    def _inputs(self) -> tuple[Dataset, ...]:
        return (Dataset.at(self.chunk),) if self.chunk else ()

    def _list_files(self) -> Lineage:
        landed = {row.track for row in self.report.rows_in(RowState.LANDED)}
        tracks = [track for track in self.tracks if track.key in landed]
        manifests = [self.read_manifest(track) for track in tracks]
        return Lineage(
            inputs=(*self._inputs, *(Dataset.of_track(track, self.vendor) for track in tracks)),
            outputs=tuple(stem for manifest in manifests if manifest for stem in stem_datasets(manifest)),
        )


class LineageMixin:
    """
    An operator with lineage. Imports nothing of OpenLineage until OpenLineage calls it.

    :cvar lineage: What the task instance has read and written so far.
    """

    lineage: Lineage | BatchLineage = Lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage to OpenLineage, which calls this after a failure, too."""
        return self.lineage.facets()


def report_hook_lineage(
    aws_conn_id: str | None, *, inputs: Iterable[Dataset] = (), outputs: Iterable[Dataset] = ()
) -> None:
    """
    Report what was read and written to Airflow's hook lineage collector.

    :param aws_conn_id: Connection of the object storage, which the collector records.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook: Any = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    try:
        for dataset in inputs:
            collector.add_input_asset(hook, uri=dataset.uri)
        for dataset in outputs:
            collector.add_output_asset(hook, uri=dataset.uri)
    except ValueError as e:  # an address that is no valid asset in Airflow
        log.info("Hook lineage is not complete: %s", e)


def _output_dataset(dataset: Dataset) -> Any:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )

    statistics = OutputStatisticsOutputDatasetFacet(size=dataset.bytes, fileCount=dataset.files)
    return OutputDataset(dataset.namespace, dataset.name, outputFacets={"outputStatistics": statistics})
