"""Moving all stems of one task: in parallel, and once more those whose links had expired."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType
from airflow_provider_vocalsep.landing.errors import LandingError, LinkExpiredError
from airflow_provider_vocalsep.landing.manifest import AbsentStem, LandedStem, Manifest
from airflow_provider_vocalsep.landing.stem_lander import LandingResources, StemRequest, land_stem
from airflow_provider_vocalsep.landing.upload import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
    from airflow_provider_vocalsep.storage.location import StemLocation

log = logging.getLogger(__name__)

#: How often expired links are asked for anew in one landing. Twice, because the last of many large stems may have to
#: wait longer than a renewed link lives (20 minutes at kie).
_REFRESHES = 2

#: What becomes of a stem.
Outcome = LandedStem | AbsentStem | VocalSepError


@dataclass
class LandingPasses:
    """
    The landing of one task's stems.

    :param task: The vendor's record.
    :param place: Where the stems belong.
    :param tools: What moves them.
    :param refresh: Reads the record again; called in the calling thread.
    :param before: The manifest of an earlier landing of this task.
    :param expected_duration: Length of the track in seconds, if known.
    :param replace: Send stems that are there already.
    """

    task: SeparationTask
    place: StemLocation
    tools: LandingResources
    refresh: Callable[[], SeparationTask]
    before: Manifest | None = None
    expected_duration: float | None = None
    replace: bool = False

    def run(self) -> dict[str, Outcome]:
        """Return what became of every stem, in the order of the record."""
        self._ask_for_what_is_promised()
        outcomes: dict[str, Outcome] = {}
        pending: Iterable[StemLink] = self.task.stems
        for refreshes_left in range(_REFRESHES, -1, -1):
            outcomes.update(self._round(pending))
            expired = [name for name, outcome in outcomes.items() if isinstance(outcome, LinkExpiredError)]
            if not expired:
                break
            if not refreshes_left:
                for name in expired:
                    outcomes[name] = LinkExpiredError(
                        f"{outcomes[name]} The record has no newer one; vendors keep stems for about 14 days"
                    )
                break
            log.info("Links of %s have expired: asking for new ones.", ", ".join(expired))
            try:
                pending = [stem for stem in self.refresh().present if stem.name in expired]
            except VocalSepError as e:
                for name in expired:
                    outcomes[name] = LinkExpiredError(f"{outcomes[name]} Asking for a new one failed: {e}")
                break
        return self._judged(outcomes)

    @property
    def _promised(self) -> tuple[str, ...]:
        """The stems without which the separation is not complete; others may be empty."""
        if self.place.separation_type is SeparationType.SEPARATE_VOCAL:
            return tuple(stem.value for stem in EXPECTED_STEMS[SeparationType.SEPARATE_VOCAL])
        return ()

    def _ask_for_what_is_promised(self) -> None:
        present = {stem.name for stem in self.task.present}
        if present and present.issuperset(self._promised):
            return
        try:
            self.task = self.refresh()
        except VocalSepError as e:
            log.warning("The record lacks links, and reading it again failed: %s", e)

    def _round(self, stems: Iterable[StemLink]) -> dict[str, Outcome]:
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
            outcomes.update(self._move(present))
        return outcomes

    def _move(self, stems: list[StemLink]) -> dict[str, Outcome]:
        stopped = threading.Event()
        with (
            ThreadPoolExecutor(MAX_PARTS, thread_name_prefix="parts") as senders,
            ThreadPoolExecutor(
                min(len(stems), self.tools.max_parallel), thread_name_prefix="stems"
            ) as movers,
        ):
            futures = {stem.name: movers.submit(self._move_one, stem, senders, stopped) for stem in stems}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                # A time-out or kill of the Airflow task arrives here: the threads must not go on for an hour.
                stopped.set()
                raise

    def _move_one(self, stem: StemLink, senders: Executor, stopped: threading.Event) -> Outcome:
        order = StemRequest(
            stem=stem,
            place=self.place,
            vendor_task_id=self.task.task_id,
            expected_duration=self.expected_duration,
            before=self.before.stem(stem.name) if self.before else None,
            replace=self.replace,
        )
        with self.tools.turns:
            try:
                return land_stem(order, self.tools, senders, stopped)
            except VocalSepError as e:
                log.warning("Stem %s of vendor task %s did not land: %s", stem.name, self.task.task_id, e)
                return e

    def _judged(self, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        """Turn absences into failures where the separation type promises the stem."""
        if all(isinstance(outcome, AbsentStem) for outcome in outcomes.values()):
            return {
                "every stem": LandingError("the vendor calls the task finished and offers none", failures={})
            }
        for name in self._promised:
            outcome = outcomes.get(name)
            if outcome is None or isinstance(outcome, AbsentStem):
                why = outcome.reason if outcome else "the vendor's record does not name it"
                outcomes[name] = LandingError(
                    f"{self.place.separation_type} promises it, but {why}", failures={}
                )
        expected = [stem.value for stem in EXPECTED_STEMS.get(self.place.separation_type, ())]
        for name in expected:
            outcomes.setdefault(name, AbsentStem(name=name, reason="the vendor's record does not name it"))
        if not expected:
            return outcomes
        # A record names every stem that the vendor knows; the others of them were never asked for.
        return {
            name: outcome
            for name, outcome in outcomes.items()
            if name in expected or not isinstance(outcome, AbsentStem)
        }
