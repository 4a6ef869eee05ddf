"""The run report of a task instance as an object in the bucket."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.ledger.ledger import utc_now
from airflow_provider_vocalsep.runs.listing import read_report
from airflow_provider_vocalsep.runs.report import ReportError
from airflow_provider_vocalsep.storage.errors import NotFoundError

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.ledger import TaskInstanceRef
    from airflow_provider_vocalsep.runs.report import BatchReport
    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportFile:
    """
    The run report of a task instance.

    :param store: The object store.
    :param destination: Where the stems land.
    :param asked_by: The task instance.
    :param separation_type: What its tracks are separated into.
    :param stem_name: The stem asked for with ``split_stem_advanced``.
    """

    store: ObjectStore
    destination: Location
    asked_by: TaskInstanceRef
    separation_type: SeparationType
    stem_name: str | None = None

    @property
    def key(self) -> str:
        """Its key."""
        by = self.asked_by
        folder = self.destination.run_folder(by.dag_id, by.run_id, by.task_id)
        return folder.key(f"{max(by.map_index, 0):05}.jsonl")

    @property
    def uri(self) -> str:
        """Its address."""
        return self.destination.uri_of(self.key)

    def read(self) -> BatchReport | None:
        """
        Read the report of an earlier leg or try of this task instance.

        :return: ``None`` if there is none, or none that this version understands: the ledger knows the same.
        :raises StorageError: it could not be read.
        """
        try:
            report = read_report(self.store, self.destination, self.key)
        except NotFoundError:
            return None
        except ReportError as e:
            log.warning("%s; reading the ledger instead.", e)
            return None
        if not report.is_understood:
            log.warning("A newer version wrote %s; reading the ledger instead.", self.uri)
            return None
        return report

    def write(self, report: BatchReport) -> None:
        """
        Write the report.

        :raises StorageError: it could not be written. Nothing is lost: the ledger has what a retry needs.
        """
        body = report.to_jsonl(
            **self.asked_by.model_dump(exclude_none=True),
            destination=self.destination.uri,
            separation_type=self.separation_type,
            stem_name=self.stem_name,
            written_at=utc_now(),
        )
        self.store.put(self.destination.bucket, self.key, body, content_type="application/x-ndjson")
