"""What an operator read and wrote, told to OpenLineage and to Airflow's hook lineage."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.landing.land import read_manifest
from airflow_provider_vocalsep.landing.manifest import describe_track
from airflow_provider_vocalsep.runs.report import RowState
from airflow_provider_vocalsep.storage.location import parse_s3_uri
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.operators.batch_parts import BatchParts
    from airflow_provider_vocalsep.runs.report import BatchReport

log = logging.getLogger(__name__)

#: Tracks of a batch, or chunks of a plan, up to which each file is told; above, the folder that they are in.
LISTED = 20


@dataclass(frozen=True)
class Data:
    """
    A dataset, by OpenLineage's naming.

    :param namespace: ``s3://bucket``, or scheme and host.
    :param name: Key or path, without a slash in front.
    :param bytes: Size, if it was written.
    :param files: Files in it, if it was written.
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
    def at(cls, uri: str, **size: int) -> Data:
        """
        Name what is at an address; neither credentials nor a query, which may sign it, are kept.

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
    def of_track(cls, track: Track, base_url: str) -> Data:
        """
        Name the audio of a track.

        :param track: The track.
        :param base_url: Where the API is; its name is the namespace of generated tracks.
        """
        url = describe_track(track)["audio_url"]
        return cls.at(url) if url else cls(base_url, f"{track.task_id}/{track.audio_id}")


def stems_of(manifest: Manifest) -> list[Data]:
    """Name the stems that landed."""
    return [Data.at(stem.uri, bytes=stem.bytes, files=1) for stem in manifest.stems]


@dataclass(frozen=True)
class Lineage:
    """
    What one task instance reads and writes.

    :param inputs: What it reads.
    :param outputs: What it writes.
    :param vendor: Where the vendor's API is.
    :param vendor_task_id: The vendor task, if it is about one.
    """

    inputs: tuple[Data, ...] = ()
    outputs: tuple[Data, ...] = ()
    vendor: str = ""
    vendor_task_id: str | None = None

    def writing(self, manifest: Manifest) -> Lineage:
        """Add what landed."""
        return replace(self, outputs=tuple(stems_of(manifest)), vendor_task_id=manifest.vendor_task_id)

    def facets(self) -> OperatorLineage[Any, Any]:
        """Return it as OpenLineage's."""
        from airflow.providers.common.compat.openlineage.facet import ExternalQueryRunFacet, InputDataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        facets = {}
        if self.vendor_task_id:
            facets["externalQuery"] = ExternalQueryRunFacet(
                externalQueryId=self.vendor_task_id, source=self.vendor
            )
        return OperatorLineage(
            inputs=[InputDataset(data.namespace, data.name) for data in self.inputs],
            outputs=[_output_dataset(data) for data in self.outputs],
            run_facets=facets,
        )


@dataclass(frozen=True)
class BatchLineage:
    """
    What a batch reads and writes.

    :param parts: What it worked with.
    :param report: What became of its tracks.
    :param chunk: Address of the chunk file, if its tracks came from one.
    """

    parts: BatchParts
    report: BatchReport
    chunk: str | None

    def folder(self) -> Lineage:
        """Return it with everything that landed as one dataset, the destination."""
        totals = self.report.totals()
        whole = Data.at(self.parts.destination, bytes=totals["bytes"], files=totals["stems"])
        return Lineage(inputs=self._read, outputs=(whole,) if totals["landed"] else ())

    def facets(self) -> OperatorLineage[Any, Any]:
        """Return it as OpenLineage's: each track and each stem of few tracks, else chunk and destination."""
        if len(self.report.rows) > LISTED:
            return self.folder().facets()
        try:
            return self._listed().facets()
        except VocalSepError as e:
            log.info("The stems are told to OpenLineage as one dataset: %s", e)
            return self.folder().facets()

    @property
    def _read(self) -> tuple[Data, ...]:
        return (Data.at(self.chunk),) if self.chunk else ()

    def _listed(self) -> Lineage:
        landed = {row.track for row in self.report.rows_in(RowState.LANDED)}
        tracks = [track for track in self.parts.tracks if track.key in landed]
        vendor = self.parts.hook.settings.base_url
        store = ObjectStore(self.parts.s3_client)
        manifests = [read_manifest(store, self.parts.place(track)) for track in tracks]
        return Lineage(
            inputs=(*self._read, *(Data.of_track(track, vendor) for track in tracks)),
            outputs=tuple(stem for manifest in manifests if manifest for stem in stems_of(manifest)),
        )


class TellsLineage:
    """
    An operator that OpenLineage can ask. Nothing of OpenLineage is imported before it does.

    :cvar lineage: What the task instance has read and written so far.
    """

    lineage: Lineage | BatchLineage = Lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage, which calls this after a failure, too."""
        return self.lineage.facets()


def tell_hook_lineage(
    aws_conn_id: str | None, *, inputs: Iterable[Data] = (), outputs: Iterable[Data] = ()
) -> None:
    """
    Tell Airflow's collector what was read and written, for whichever plugin reads it.

    :param aws_conn_id: Connection of the object storage, which the collector keeps with it.
    :param inputs: What was read.
    :param outputs: What was written.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook: Any = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    try:
        for data in inputs:
            collector.add_input_asset(hook, uri=data.uri)
        for data in outputs:
            collector.add_output_asset(hook, uri=data.uri)
    except ValueError as e:  # an address that Airflow does not take for an asset
        log.info("Hook lineage is not complete: %s", e)


def _output_dataset(data: Data) -> Any:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )

    statistics = OutputStatisticsOutputDatasetFacet(size=data.bytes, fileCount=data.files)
    return OutputDataset(data.namespace, data.name, outputFacets={"outputStatistics": statistics})
