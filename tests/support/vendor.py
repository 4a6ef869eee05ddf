"""A vendor in the test's process that counts its charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import SubmitOutcomeUnknownError
from airflow_provider_vocalsep.api.models import SeparationTask, StemLink
from airflow_provider_vocalsep.api.requests import PLACEHOLDER_CALLBACK_URL
from airflow_provider_vocalsep.api.vocabulary import EXPECTED_STEMS, SeparationType, TaskStatus
from airflow_provider_vocalsep.client.settings import AccountSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.api.track import Track

#: Fates of a submit, besides an exception to raise: accepted; accepted without an answer; accepted while the
#: worker is killed.
ACCEPT, ACCEPT_AND_LOSE, ACCEPT_AND_DIE = "accept", "accept and lose", "accept and die"


class Killed(BaseException):
    """The process ends here, as by SIGKILL: no handler catches this."""


def account_settings(**extra: object) -> AccountSettings:
    """Return the settings of a connection without a rate limit that a test could reach."""
    extra = {"submit_rate": "1000/1s", "read_rate": "1000/1s", **extra}
    return AccountSettings.build(
        "vocalsep_default", password="key", login=None, host=None, schema=None, port=None, extra=extra
    )


class FakeVendor:
    """
    Charges for every submit that it accepts; the test ends its tasks.

    :param fates: Fates of the first submits; further ones are accepted.
    :ivar on_submit: Called before each submit.
    """

    on_submit: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, *fates: str | BaseException, settings: AccountSettings | None = None) -> None:
        self.settings = settings or account_settings()
        self.fates = list(fates)
        self.charges = 0
        self.calls = 0
        self.reads = 0
        self.callback_url = ""
        self.records: dict[str, SeparationTask] = {}

    def submit(
        self,
        track: Track,
        separation_type: SeparationType,
        *,
        stem_name: str | None = None,
        callback_url: str = PLACEHOLDER_CALLBACK_URL,
    ) -> str:
        self.on_submit()
        self.callback_url = callback_url
        self.calls += 1
        fate = self.fates.pop(0) if self.fates else ACCEPT
        if isinstance(fate, BaseException):
            raise fate
        self.charges += 1
        vendor_task_id = f"T{self.charges}"
        self.records[vendor_task_id] = SeparationTask(vendor_task_id, TaskStatus.PENDING, ())
        if fate == ACCEPT_AND_LOSE:
            raise SubmitOutcomeUnknownError("No answer came.")
        if fate == ACCEPT_AND_DIE:
            raise Killed
        return vendor_task_id

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        self.reads += 1
        return self.records.get(vendor_task_id)

    def finish(self, vendor_task_id: str = "T1") -> None:
        """Let a task end with links to its stems."""
        names = [stem.value for stem in EXPECTED_STEMS[SeparationType.SEPARATE_VOCAL]]
        stems = tuple(StemLink(name, f"https://vendor.example/{vendor_task_id}/{name}.mp3") for name in names)
        self.records[vendor_task_id] = SeparationTask(vendor_task_id, TaskStatus.SUCCESS, stems)

    def fail(self, vendor_task_id: str = "T1", code: int = 500) -> None:
        """Let a task fail."""
        self.records[vendor_task_id] = SeparationTask(
            vendor_task_id, TaskStatus.GENERATE_AUDIO_FAILED, (), error_code=code, error_message="no"
        )

    def forget(self, vendor_task_id: str = "T1") -> None:
        """Remove the record of a task."""
        del self.records[vendor_task_id]
