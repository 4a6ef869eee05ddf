"""All that one track of a batch needs, from the claim to its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.landing.land import Lander
    from airflow_provider_vocalsep.landing.manifest import Manifest
    from airflow_provider_vocalsep.ledger.transitions import CallbackLookup
    from airflow_provider_vocalsep.separation.submitting import Submission, Submitter
    from airflow_provider_vocalsep.separation.track_job import SeparationJob
    from airflow_provider_vocalsep.storage.location import StemLocation


@dataclass(frozen=True)
class TrackWork:
    """
    One track under way.

    :param job: Its separation.
    :param submitter: What pays for it, once.
    :param place: Where its stems belong.
    :param lander: What carries them there.
    :param replace: Land again what is there.
    """

    job: SeparationJob
    submitter: Submitter
    place: StemLocation
    lander: Lander
    replace: bool = False

    def secure(self) -> tuple[Submission, Manifest | None]:
        """
        Make sure that it is paid for, once.

        :return: The vendor task, and the manifest of a track that is where it belongs already.
        """
        secured = self.submitter.secure()
        landed = secured.landed and not self.replace
        return secured, self.job.still_landed(self.lander.resources.store, self.place) if landed else None

    def read(self, vendor_task_id: str) -> SeparationTask:
        """Read the vendor's record."""
        return self.job.read_task(vendor_task_id)

    def finish(self, task: SeparationTask, heard: CallbackLookup) -> Manifest:
        """
        Write down how the vendor ended its task, and land the stems.

        :param task: The record of a task that has ended.
        :param heard: Tells the callbacks that came for an attempt.
        """
        self.job.conclude(task, heard)
        return self.job.land(task, self.lander, self.place, replace=self.replace)
