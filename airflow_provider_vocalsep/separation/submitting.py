"""Making sure that a separation is paid for, once: claim it in the ledger, submit it, or find who did."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import (
    SubmitOutcomeUnknownError,
    VendorError,
    VendorUnreachableError,
    Verdict,
    VocalSepError,
)
from airflow_provider_vocalsep.api.requests import PLACEHOLDER_CALLBACK_URL
from airflow_provider_vocalsep.ledger import (
    Attach,
    ClaimLostError,
    InDoubt,
    Intent,
    LedgerError,
    Outcome,
    Submit,
    is_unpaid,
)
from airflow_provider_vocalsep.separation.adoption import adopt
from airflow_provider_vocalsep.separation.submit_retries import retry_recording, retry_submit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_provider_vocalsep.client.pace import Gate
    from airflow_provider_vocalsep.ledger import Decision, Ledger, TaskInstanceRef
    from airflow_provider_vocalsep.ledger.entry import Attempt
    from airflow_provider_vocalsep.separation.adoption import CallbackChannel
    from airflow_provider_vocalsep.separation.track_job import Separation, Vendor

log = logging.getLogger(__name__)

#: Seconds between two looks at a claim that another run is just submitting.
_IN_FLIGHT_LOOK = 2.0

#: The way out of doubt, for messages.
_WAY_OUT = (
    "It is not submitted again by itself. Look at the vendor's list of tasks: if the track is not there, or paying "
    "twice is acceptable, clear this Airflow task with on_lost_submit='resubmit'."
)


class OnLostSubmit(str, Enum):
    """What to do when the answer to a submit was lost and it may have been paid."""

    ADOPT = "adopt"
    RESUBMIT = "resubmit"
    FAIL = "fail"


class LostSubmitError(VocalSepError):
    """A submit may have been paid and its vendor task id is not known; nothing goes on without a person."""

    retryable = False


class ResubmitDueError(VocalSepError):
    """A submit may have been paid and its vendor task id is not known; a retry submits anew, as ``resubmit`` asks."""


@dataclass(frozen=True)
class Submission:
    """
    The separation is paid for.

    :param vendor_task_id: The vendor task to wait for.
    :param submitted_at: When it was submitted.
    :param submitted_now: Whether it was submitted just now, or found in the ledger.
    :param landed: The ledger has its stems in the bucket, at the place asked for.
    :param attempt_id: The attempt that paid for it.
    :param calls_back: The vendor reports its end to this task instance.
    """

    vendor_task_id: str
    submitted_at: datetime
    submitted_now: bool = False
    landed: bool = False
    attempt_id: str = ""
    calls_back: bool = False


class Submitter:
    """
    Secures one separation. Holds no state of its own: whatever matters is in the ledger.

    :param separation: What is to be separated.
    :param vendor: The vendor's client.
    :param ledger: Where paid separations are kept.
    :param asked_by: Who asks.
    :param manifest_uri: Where the stems are to land; ``None`` when they are not to be landed.
    :param on_lost_submit: What to do about a submit whose answer was lost.
    :param line: How the vendor calls back; ``None`` when it does not.
    :param gate: Paces the submits of this process; ``None`` for a process that sends one.
    :param before_paying: Called before a claim that is to be submitted; may raise to forbid it.
    :param sleep: How to wait, in seconds.
    """

    def __init__(
        self,
        separation: Separation,
        *,
        vendor: Vendor,
        ledger: Ledger,
        asked_by: TaskInstanceRef,
        manifest_uri: str | None = None,
        on_lost_submit: OnLostSubmit = OnLostSubmit.ADOPT,
        line: CallbackChannel | None = None,
        gate: Gate | None = None,
        before_paying: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.separation = separation
        self.vendor = vendor
        self.ledger = ledger
        self.asked_by = asked_by
        self.manifest_uri = manifest_uri
        self.on_lost_submit = on_lost_submit
        self.line = line
        self.gate = gate
        self.before_paying = before_paying
        self.sleep = sleep

    def secure(self) -> Submission:
        """
        Make sure that the separation is paid for, once: submit it, or find who did.

        :raises AwaitingCallback: a submit may have been paid; the vendor is to call back and say which task it made.
        :raises LostSubmitError: a submit may have been paid; ``on_lost_submit`` forbids another.
        :raises ResubmitDueError: a submit may have been paid just now; called again, this submits anew.
        :raises VocalSepError: nothing was paid.
        """
        while True:
            intent = self._intent()
            try:
                self._wait_for_turn(intent)
                return self._follow(self._decide(intent), intent)
            except ClaimLostError as e:
                log.info("Track %r: %s; looking at the ledger again.", self.separation.track.key, e)

    def _intent(self) -> Intent:
        return Intent(
            attempt_id=uuid.uuid4().hex,
            asked_by=self.asked_by,
            track_key=self.separation.track.key,
            fingerprint=self.separation.fingerprint,
            title=self.separation.track.title,
            calls_back=self.line is not None,
        )

    def _wait_for_turn(self, intent: Intent) -> None:
        """Wait for the vendor's window before anything is claimed: a claim that waits in line would look like one in doubt."""
        if self.gate is None and self.before_paying is None:
            return
        if is_unpaid(self.ledger.read(self.separation.identity), intent.fingerprint):
            if self.before_paying:
                self.before_paying()
            if self.gate:
                self.gate.wait()

    def _decide(self, intent: Intent) -> Decision:
        awaited = None
        while True:
            decision = self.ledger.claim(self.separation.identity, intent, manifest_uri=self.manifest_uri)
            if not (isinstance(decision, InDoubt) and decision.in_flight):
                return decision
            if decision.attempt.attempt_id != awaited:
                awaited = decision.attempt.attempt_id
                log.info(
                    "Track %r is being submitted by %s; waiting for the vendor's answer in its ledger entry.",
                    self.separation.track.key,
                    decision.attempt.asked_by,
                )
            self.sleep(_IN_FLIGHT_LOOK)

    def _follow(self, decision: Decision, intent: Intent) -> Submission:
        if isinstance(decision, InDoubt):
            return self._follow(self._resolve_doubt(decision, intent), intent)
        if isinstance(decision, Submit):
            return self._submit(decision.attempt_id)
        if isinstance(decision, Attach):
            log.info(
                "Track %r was submitted before, at %s: attaching to vendor task %s, nothing is paid again.",
                self.separation.track.key,
                decision.submitted_at.isoformat(timespec="seconds"),
                decision.vendor_task_id,
            )
            reports_to = decision.reports_to
            calls_back = reports_to is not None and reports_to.instance == self.asked_by.instance
            return Submission(
                decision.vendor_task_id,
                decision.submitted_at,
                attempt_id=decision.attempt_id,
                calls_back=calls_back,
            )
        return Submission(
            decision.vendor_task_id, decision.submitted_at, landed=True, attempt_id=decision.attempt_id
        )

    def _resolve_doubt(self, doubt: InDoubt, intent: Intent) -> Decision:
        lost = doubt.attempt
        adopted = self._adopt(lost)
        if adopted is not None:
            return adopted
        what = (
            f"Track {self.separation.track.key!r} may have been paid for already: {lost.asked_by} was about to submit it at "
            f"{lost.claimed_at.isoformat(timespec='seconds')} (attempt {lost.attempt_id}) and no answer of the "
            "vendor is recorded."
        )
        if self.on_lost_submit is OnLostSubmit.RESUBMIT:
            log.warning("%s Submitting it anew, as on_lost_submit='resubmit' asks; this may pay twice.", what)
            return self.ledger.take_over(self.separation.identity, lost, intent)
        if lost.calls_back and lost.asked_by.instance != self.asked_by.instance:
            what += " Its vendor task may have called it back: clear that task instance first, it adopts the vendor task."
        self.ledger.append_event(
            self.separation.identity,
            "left_in_doubt",
            by=self.asked_by,
            message=f"on_lost_submit={self.on_lost_submit.value!r}",
        )
        raise LostSubmitError(
            f"{what} {_WAY_OUT} Ledger entry: {self.ledger.uri_of(self.separation.identity)}"
        )

    def _adopt(self, lost: Attempt) -> Attach | None:
        if self.line is None or self.on_lost_submit is OnLostSubmit.FAIL:
            return None
        return adopt(
            lost,
            self.separation,
            line=self.line,
            ledger=self.ledger,
            asked_by=self.asked_by,
            then=f"on_lost_submit={self.on_lost_submit.value!r} decides",
        )

    def _submit(self, attempt_id: str) -> Submission:
        try:
            vendor_task_id = self._send(attempt_id)
        except SubmitOutcomeUnknownError as e:
            self.ledger.record_submit_lost(self.separation.identity, attempt_id, str(e))
            log.warning("Track %r: %s", self.separation.track.key, e)
            entry = self.ledger.read(self.separation.identity)
            lost = entry.attempt(attempt_id) if entry else None
            adopted = self._adopt(lost) if lost else None
            if adopted is not None:
                return Submission(
                    adopted.vendor_task_id, adopted.submitted_at, attempt_id=attempt_id, calls_back=True
                )
            raise self._lost(e) from e
        except (VendorError, VendorUnreachableError) as e:
            e.args = (f"Track {self.separation.track.key!r} was not submitted. {e}",)
            self._record_refusal(attempt_id, e)
            raise
        self._record_answer(attempt_id, vendor_task_id)
        log.info(
            "Submitted track %r: vendor task %s. A retry attaches to it; nothing is paid again.",
            self.separation.track.key,
            vendor_task_id,
        )
        return Submission(
            vendor_task_id,
            self.ledger.now(),
            submitted_now=True,
            attempt_id=attempt_id,
            calls_back=self.line is not None,
        )

    def _lost(self, error: SubmitOutcomeUnknownError) -> VocalSepError:
        what = f"Track {self.separation.track.key!r}: {error}"
        where = f"Ledger entry: {self.ledger.uri_of(self.separation.identity)}"
        if self.on_lost_submit is OnLostSubmit.RESUBMIT:
            # Not here and now: a vendor whose answers are all lost would be paid for ever. Airflow's retries have an end.
            return ResubmitDueError(
                f"{what} A retry submits it anew, as on_lost_submit='resubmit' asks. {where}"
            )
        return LostSubmitError(f"{what} {_WAY_OUT} {where}")

    def _send(self, attempt_id: str) -> str:
        """Submit; turned away for rate or maintenance, submit once more after a while, with the claim renewed."""
        refused: VendorError | VendorUnreachableError | None = None
        for attempt in retry_submit(self.sleep, paced=self.gate is not None):
            with attempt:
                if refused is not None:
                    if self.gate:
                        self.gate.wait()
                    code = refused.code if isinstance(refused, VendorError) else None
                    self.ledger.renew(self.separation.identity, attempt_id, code=code, message=str(refused))
                try:
                    return self._send_once(attempt_id)
                except (VendorError, VendorUnreachableError) as e:
                    refused = e
                    raise
        raise AssertionError("unreachable: Retrying re-raises")

    def _send_once(self, attempt_id: str) -> str:
        try:
            vendor_task_id = self.vendor.submit(
                self.separation.track,
                self.separation.separation_type,
                stem_name=self.separation.stem_name,
                callback_url=self.line.url_of(attempt_id) if self.line else PLACEHOLDER_CALLBACK_URL,
            )
        except VendorError as e:
            if self.gate:
                self.gate.refused(e)
            raise
        if self.gate:
            self.gate.accepted()
        return vendor_task_id

    def _record_refusal(self, attempt_id: str, error: VendorError | VendorUnreachableError) -> None:
        verdict = error.verdict if isinstance(error, VendorError) else Verdict.RETRY
        outcome = Outcome(
            at=self.ledger.now(),
            verdict=verdict,
            code=error.code if isinstance(error, VendorError) else None,
            message=str(error),
            final=verdict in (Verdict.FATAL, Verdict.OUT_OF_CREDITS),
        )
        self.ledger.record_failed(self.separation.identity, attempt_id, outcome, event="submit_refused")

    def _record_answer(self, attempt_id: str, vendor_task_id: str) -> None:
        """Write the task id down, hard: until it is in the ledger, what was paid is known to this process alone."""
        try:
            retry_recording(self.sleep)(
                self.ledger.record_submitted, self.separation.identity, attempt_id, vendor_task_id
            )
        except LedgerError as e:
            raise LedgerError(
                f"Track {self.separation.track.key!r} is paid for as vendor task {vendor_task_id}, and this could not be "
                f"written to the ledger: {e} Keep that id: VocalSeparationToS3Operator lands it."
            ) from e
