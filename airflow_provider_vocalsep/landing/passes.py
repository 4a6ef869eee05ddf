"""Landing of all stems of one vendor task: in parallel, and again for the stems whose links had expired."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.landing.errors import LandingError, LinkExpiredError
from airflow_provider_vocalsep.landing.manifest import AbsentStem, LandedStem, Manifest
from airflow_provider_vocalsep.landing.stem_lander import LandingResources, StemLander, StemRequest
from airflow_provider_vocalsep.landing.upload import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
    from airflow_provider_vocalsep.storage.location import StemLocation

log = logging.getLogger(__name__)

#: Times that the record is read again for new links. Two, because the last of many large stems may wait
#: longer than a new link lives (20 minutes at kie).
_MAX_REFRESHES = 2

#: Outcome of one stem.
Outcome = LandedStem | AbsentStem | VocalSepError


@dataclass
class LandingPasses:
    """
    Lands the stems of one vendor task: a first pass over all, and further ones over those with expired links.

    :param task: The vendor's record.
    :param location: Where the stems land.
    :param refresh: Reads the record again; called in the calling thread.
    :param previous: The manifest of an earlier landing of this task.
    :param expected_duration: Duration of the track in seconds, if known.
    :param replace: Send stems that exist already.
    """

    task: SeparationTask
    location: StemLocation
    resources: LandingResources
    refresh: Callable[[], SeparationTask]
    previous: Manifest | None = None
    expected_duration: float | None = None
    replace: bool = False

    def run(self) -> dict[str, Outcome]:
        """Land the stems; return the outcome of each by its name, in the order of the record."""
        self._refresh_incomplete_record()
        outcomes = self._run_pass(self.task.stems)
        hint = "The record has no newer one; vendors keep stems for about 14 days"
        for _ in range(_MAX_REFRESHES):
            expired = _expired_links(outcomes)
            if not expired:
                break
            log.info("The links of %s have expired: reading the record again.", ", ".join(expired))
            try:
                stems = [stem for stem in self.refresh().present if stem.name in expired]
            except VocalSepError as e:
                hint = f"Asking for a new one failed: {e}"
                break
            outcomes.update(self._run_pass(stems))
        for name, error in _expired_links(outcomes).items():
            outcomes[name] = LinkExpiredError(f"{error} {hint}")
        return self._apply_separation_type(outcomes)

    @property
    def _required_stems(self) -> tuple[str, ...]:
        """Names of the stems that every track has; others may be empty."""
        if self.location.separation_type is SeparationType.SEPARATE_VOCAL:
            return tuple(stem.value for stem in EXPECTED_STEMS[SeparationType.SEPARATE_VOCAL])
        return ()

    def _refresh_incomplete_record(self) -> None:
        present = {stem.name for stem in self.task.present}
        if present and present.issuperset(self._required_stems):
            return
        try:
            self.task = self.refresh()
        except VocalSepError as e:
            log.warning("The record lacks links, and reading it again failed: %s", e)

    def _run_pass(self, stems: Iterable[StemLink]) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        present = []
        for stem in stems:
            outcomes[stem.name] = AbsentStem(name=stem.name, reason="the vendor's record has no link to it")
            if stem.url:
                present.append(stem)
        for name, count in Counter(stem.name for stem in present).items():
            if count > 1:
                outcomes[name] = LandingError(f"the record links it {count} times", failures={})
                present = [stem for stem in present if stem.name != name]
        if present:
            outcomes.update(self._land_in_parallel(present))
        return outcomes

    def _land_in_parallel(self, stems: list[StemLink]) -> dict[str, Outcome]:
        threads = min(len(stems), self.resources.max_parallel)
        with (
            ThreadPoolExecutor(MAX_PARTS, thread_name_prefix="parts") as part_executor,
            ThreadPoolExecutor(threads, thread_name_prefix="stems") as executor,
        ):
            futures = {stem.name: executor.submit(self._land_stem, stem, part_executor) for stem in stems}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                # A timeout or kill of the Airflow task is raised here: stop the threads, which might run for
                # an hour.
                self.resources.stopped.set()
                raise

    def _land_stem(self, stem: StemLink, part_executor: Executor) -> Outcome:
        request = StemRequest(
            stem=stem,
            location=self.location,
            vendor_task_id=self.task.task_id,
            expected_duration=self.expected_duration,
            previous=self.previous.stem(stem.name) if self.previous else None,
            replace=self.replace,
        )
        with self.resources.stem_permits:
            try:
                return StemLander(request, self.resources, part_executor).land()
            except VocalSepError as e:
                log.warning("Stem %s of vendor task %s did not land: %s", stem.name, self.task.task_id, e)
                return e

    def _apply_separation_type(self, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        """Fail required stems that are absent; add or drop other absent ones to match the separation type."""
        if all(isinstance(outcome, AbsentStem) for outcome in outcomes.values()):
            return {
                "every stem": LandingError("the vendor calls the task finished and offers none", failures={})
            }
        for name in self._required_stems:
            outcome = outcomes.get(name)
            if outcome is None or isinstance(outcome, AbsentStem):
                reason = outcome.reason if outcome else "the vendor's record does not name it"
                outcomes[name] = LandingError(
                    f"{self.location.separation_type} promises it, but {reason}", failures={}
                )
        expected = [stem.value for stem in EXPECTED_STEMS.get(self.location.separation_type, ())]
        if not expected:
            return outcomes
        for name in expected:
            outcomes.setdefault(name, AbsentStem(name=name, reason="the vendor's record does not name it"))
        # A record may name all stems that the vendor knows; those without a link were not requested.
        return {
            name: outcome
            for name, outcome in outcomes.items()
            if name in expected or not isinstance(outcome, AbsentStem)
        }


def _expired_links(outcomes: dict[str, Outcome]) -> dict[str, LinkExpiredError]:
    return {name: error for name, error in outcomes.items() if isinstance(error, LinkExpiredError)}
