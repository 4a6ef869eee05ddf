"""Where run reports and plans lie in the bucket, and reading and writing them there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.ledger.ledger import utc_now
from airflow_provider_vocalsep.runs.report import BatchReport, ReportError
from airflow_provider_vocalsep.storage.errors import NotFoundError

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.vocabulary import SeparationType
    from airflow_provider_vocalsep.ledger import TaskInstanceRef
    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportFile:
    """
    The run report of a task instance.

    :param store: The object store.
    :param destination: Where stems land.
    :param asked_by: The task instance.
    :param separation_type: What it asks for.
    :param stem_name: The stem that it asks for with ``split_stem_advanced``.
    """

    store: ObjectStore
    destination: Location
    asked_by: TaskInstanceRef
    separation_type: SeparationType
    stem_name: str | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return self.destination.uri_of(self._key)

    @property
    def _key(self) -> str:
        asked_by = self.asked_by
        folder = self.destination.run_folder(asked_by.dag_id, asked_by.run_id, asked_by.task_id)
        return folder.key(f"{max(asked_by.map_index, 0):05}.jsonl")

    def read(self) -> BatchReport | None:
        """
        Read what an earlier leg or try of this task instance left.

        :return: ``None`` if there is nothing that can be read.
        :raises StorageError: the bucket did not answer.
        """
        try:
            body = self.store.get(self.destination.bucket, self._key)
            return BatchReport.from_jsonl(body, where=self.uri)
        except NotFoundError:
            return None
        except ReportError as e:
            log.warning("%s; going by the ledger.", e)
            return None

    def write(self, report: BatchReport) -> None:
        """
        Write it.

        :raises StorageError: the bucket did not take it. The ledger has all that matters; a retry goes on from there.
        """
        body = report.to_jsonl(
            **self.asked_by.model_dump(exclude_none=True),
            destination=self.destination.uri,
            separation_type=self.separation_type,
            stem_name=self.stem_name,
            written_at=utc_now(),
        )
        self.store.put(self.destination.bucket, self._key, body, content_type="application/x-ndjson")
