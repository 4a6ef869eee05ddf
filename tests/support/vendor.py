"""A vendor in the test's process that counts its charges."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.answers import parse_record
from airflow_provider_vocalsep.api.errors import (
    SubmitOutcomeUnknownError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
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

#: An answer to a read: HTTP status and body.
RawAnswer = tuple[int, bytes]

#: Answers to a status read that say nothing about the task, and that pass.
ODD_ANSWERS: dict[str, RawAnswer] = {
    "data null": (200, b'{"code":200,"data":null}'),
    "422": (200, b'{"code":422,"msg":"recordInfo is null"}'),
    "404 page": (404, b"<html>no route</html>"),
    "401": (200, b'{"code":401,"msg":"unauthorized"}'),
    "403 page": (403, b"<html>blocked</html>"),
    "505": (200, b'{"code":505,"msg":"disabled"}'),
}

#: A read that is answered with the record.
RECORD = None

_LINKS = tuple(stem.value for stem in EXPECTED_STEMS[SeparationType.SEPARATE_VOCAL])


def too_fast(retry_after: float | None = None) -> VendorError:
    """Return the refusal of a submit for rate."""
    return VendorError("Too fast.", verdict=Verdict.WAIT, code=430, retry_after=retry_after)


def under_maintenance() -> VendorError:
    """Return the refusal of a submit for maintenance."""
    return VendorError("Under maintenance.", verdict=Verdict.WAIT, code=455)


def unreachable() -> VendorUnreachableError:
    """Return the error of a connection that is refused."""
    return VendorUnreachableError("Could not connect.")


class Killed(BaseException):
    """The process ends here, as by SIGKILL: no handler catches this."""


def account_settings(login: str | None = None, **extra: object) -> AccountSettings:
    """Return the settings of a connection without a rate limit that a test could reach."""
    extra = {"submit_rate": "1000/1s", "read_rate": "1000/1s", **extra}
    return AccountSettings.build(
        "vocalsep_default", password="key", login=login, host=None, schema=None, port=None, extra=extra
    )


class FakeVendor:
    """
    Charges for every submit that it accepts; the test ends its tasks.

    :param fates: Fates of the first submits; further ones are accepted.
    :ivar on_submit: Called before each submit.
    """

    on_submit: Callable[[], object] = staticmethod(lambda: None)
    #: Submits that it accepts in a number of seconds; ``None`` for any number.
    window: tuple[int, float] | None = None
    #: Seconds after which a task ends with stems; ``None`` to leave it to the test.
    separation_seconds: float | None = None
    #: Called with the id of each task that it has charged for, before the answer is sent.
    on_charge: Callable[[str], object] | None = None

    def __init__(self, *fates: str | BaseException, settings: AccountSettings | None = None) -> None:
        self.settings = settings or account_settings()
        self.fates = list(fates)
        self.charges = 0
        self.calls = 0
        self.refusals = 0
        self.reads = 0
        self.callback_url = ""
        self.records: dict[str, SeparationTask] = {}
        self.charged_at: dict[str, float] = {}
        #: The tracks as they were sent, with each call.
        self.sent: list[Track] = []
        #: Answers to the next reads, whatever the records say.
        self.answers: list[RawAnswer | None] = []

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
        self.sent.append(track)
        fate = self.fates.pop(0) if self.fates else ACCEPT
        if self._window_is_full():
            fate = too_fast()
        if isinstance(fate, BaseException):
            self.refusals += isinstance(fate, VendorError | VendorUnreachableError)
            raise fate
        self.charges += 1
        vendor_task_id = f"T{self.charges}"
        self.charged_at[vendor_task_id] = time.time()
        self.records[vendor_task_id] = SeparationTask(
            vendor_task_id,
            TaskStatus.PENDING,
            music_id=track.audio_id,
            raw={"callbackUrl": callback_url},
        )
        if self.on_charge:
            self.on_charge(vendor_task_id)
        if fate == ACCEPT_AND_LOSE:
            raise SubmitOutcomeUnknownError("No answer came.")
        if fate == ACCEPT_AND_DIE:
            raise Killed
        return vendor_task_id

    def _window_is_full(self) -> bool:
        if self.window is None:
            return False
        most, seconds = self.window
        return sum(at > time.time() - seconds for at in self.charged_at.values()) >= most

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        self.reads += 1
        answer = self.answers.pop(0) if self.answers else RECORD
        if answer is not RECORD:
            return parse_record(*answer, self.settings.dialect)
        if self._has_ended(vendor_task_id):
            self.finish(vendor_task_id)
        return self.records.get(vendor_task_id)

    def _has_ended(self, vendor_task_id: str) -> bool:
        if self.separation_seconds is None or vendor_task_id not in self.records:
            return False
        return time.time() >= self.charged_at[vendor_task_id] + self.separation_seconds

    def finish(self, vendor_task_id: str = "T1", *, with_links: bool = True) -> None:
        """Let a task end with stems; the record may lack their links."""
        stems = tuple(
            StemLink(name, f"https://vendor.example/{vendor_task_id}/{name}.mp3") for name in _LINKS
        )
        self._end(vendor_task_id, TaskStatus.SUCCESS, stems=stems if with_links else ())

    def fail_callback(self, vendor_task_id: str = "T1") -> None:
        """Let a task end with CALLBACK_EXCEPTION, without links."""
        self._end(vendor_task_id, TaskStatus.CALLBACK_EXCEPTION)

    def fail(self, vendor_task_id: str = "T1", code: int = 500) -> None:
        """Let a task fail."""
        self._end(vendor_task_id, TaskStatus.GENERATE_AUDIO_FAILED, error_code=code, error_message="no")

    def _end(
        self,
        vendor_task_id: str,
        status: TaskStatus,
        *,
        stems: tuple[StemLink, ...] = (),
        error_code: int | None = None,
        error_message: str | None = None,
    ) -> None:
        self.records[vendor_task_id] = replace(
            self.records.get(vendor_task_id) or SeparationTask(vendor_task_id, TaskStatus.PENDING),
            status=status,
            stems=stems,
            error_code=error_code,
            error_message=error_message,
        )

    def forget(self, vendor_task_id: str = "T1") -> None:
        """Remove the record of a task."""
        del self.records[vendor_task_id]
