"""Paying for a separation once: claim it in the ledger and submit it, or find who did."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import (
    StoppedError,
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
from airflow_provider_vocalsep.separation.adoption import AwaitingCallback, adopt
from airflow_provider_vocalsep.separation.own_file import prepare_file
from airflow_provider_vocalsep.separation.runtime import OnLostSubmit
from airflow_provider_vocalsep.separation.submit_retries import retry_recording, retry_submit

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.ledger import Decision, Identity
    from airflow_provider_vocalsep.ledger.entry import Attempt
    from airflow_provider_vocalsep.separation.own_file import PreparedFile
    from airflow_provider_vocalsep.separation.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds between two reads of an entry that another task instance is submitting.
_IN_FLIGHT_PAUSE = 2.0

#: The next step after a lost submit, for messages.
_NEXT_STEP = (
    "It is not submitted again without a decision. Check the vendor's list of tasks: if the track is not "
    "there, or paying twice is acceptable, clear this Airflow task with on_lost_submit='resubmit'."
)


class LostSubmitError(VocalSepError):
    """A submit may have been paid and its vendor task id is unknown; a person has to decide."""

    retryable = False


class ResubmitDueError(VocalSepError):
    """A submit may have been paid and its vendor task id is unknown; a retry submits again."""


@dataclass(frozen=True)
class Submission:
    """
    A separation that is paid for.

    :param vendor_task_id: The vendor task to wait for.
    :param submitted_now: Whether this process has submitted it; otherwise the ledger had it.
    :param landed: Whether, by the ledger, its stems have landed at the requested location.
    :param attempt_id: The attempt that paid for it.
    :param calls_back: Whether the vendor calls this task instance back.
    """

    vendor_task_id: str
    submitted_at: datetime
    submitted_now: bool = False
    landed: bool = False
    attempt_id: str = ""
    calls_back: bool = False


class Submitter:
    """
    Secures one separation. All state that matters is in the ledger.

    :param track: The track as the user wrote it.
    :param manifest_uri: Address of the manifest to come; ``None`` if the stems are not landed.
    """

    def __init__(
        self, track: Track, identity: Identity, runtime: Runtime, *, manifest_uri: str | None = None
    ) -> None:
        self.track = track
        self.identity = identity
        self.runtime = runtime
        self.manifest_uri = manifest_uri
        self.ledger = runtime.ledger
        self.callbacks = runtime.callbacks

    @cached_property
    def prepared(self) -> PreparedFile:
        """The track as it is submitted, and the version of its audio."""
        return prepare_file(self.track, self.runtime.store)

    def secure(self) -> Submission | AwaitingCallback:
        """
        Pay for the separation once: submit it, or attach to the task instance that did.

        :raises LostSubmitError: a submit may have been paid; ``on_lost_submit`` forbids another.
        :raises ResubmitDueError: a submit may have been paid just now; the next call submits again.
        :raises VocalSepError: nothing was paid.
        """
        while True:
            self.runtime.check_stopped()
            intent = self._intent()
            try:
                self._wait_for_turn(intent)
                return self._follow(self._claim(intent), intent)
            except ClaimLostError as e:
                log.info("Track %r: %s; reading the ledger again.", self.track.key, e)

    def _intent(self) -> Intent:
        return Intent(
            attempt_id=uuid.uuid4().hex,
            asked_by=self.runtime.asked_by,
            track_key=self.track.key,
            fingerprint=self.prepared.fingerprint,
            title=self.track.title,
            calls_back=self.callbacks.enabled,
        )

    def _wait_for_turn(self, intent: Intent) -> None:
        """Wait for the vendor's window before the claim: a claim that waits would look like a lost submit."""
        gate, budget = self.runtime.gate, self.runtime.budget
        if gate is None and budget.left is None:
            return
        if is_unpaid(self.ledger.read(self.identity), intent.fingerprint):
            budget.take()
            if gate:
                gate.wait(self.runtime.pause)

    def _claim(self, intent: Intent) -> Decision:
        awaited = None
        while True:
            decision = self.ledger.claim(self.identity, intent, manifest_uri=self.manifest_uri)
            if not (isinstance(decision, InDoubt) and decision.in_flight):
                return decision
            if decision.attempt.attempt_id != awaited:
                awaited = decision.attempt.attempt_id
                log.info(
                    "Track %r is being submitted by %s; waiting for the vendor's answer in its ledger entry.",
                    self.track.key,
                    decision.attempt.asked_by,
                )
            self.runtime.pause(_IN_FLIGHT_PAUSE)

    def _follow(self, decision: Decision | AwaitingCallback, intent: Intent) -> Submission | AwaitingCallback:
        if isinstance(decision, AwaitingCallback):
            return decision
        if isinstance(decision, InDoubt):
            return self._follow(self._resolve_doubt(decision.attempt, intent), intent)
        if isinstance(decision, Submit):
            return self._submit(decision.attempt_id)
        if isinstance(decision, Attach):
            log.info(
                "Track %r was submitted before, at %s: attaching to vendor task %s, nothing is paid again.",
                self.track.key,
                decision.submitted_at.isoformat(timespec="seconds"),
                decision.vendor_task_id,
            )
            return self._attach_to(decision)
        return Submission(
            decision.vendor_task_id, decision.submitted_at, landed=True, attempt_id=decision.attempt_id
        )

    def _attach_to(self, decision: Attach) -> Submission:
        reports_to = decision.reports_to
        return Submission(
            decision.vendor_task_id,
            decision.submitted_at,
            attempt_id=decision.attempt_id,
            calls_back=reports_to is not None and reports_to.instance == self.runtime.asked_by.instance,
        )

    def _resolve_doubt(self, lost: Attempt, intent: Intent) -> Decision | AwaitingCallback:
        adopted = adopt(lost, self.identity, self.track.key, self.runtime)
        if adopted is not None:
            return adopted
        policy = self.runtime.options.on_lost_submit
        what = (
            f"Track {self.track.key!r} may have been paid for already: {lost.asked_by} was about to submit "
            f"it at {lost.claimed_at.isoformat(timespec='seconds')} (attempt {lost.attempt_id}) and no "
            "answer of the vendor is recorded."
        )
        if policy is OnLostSubmit.RESUBMIT:
            log.warning(
                "%s Submitting it again, as on_lost_submit='resubmit' asks; this may pay twice.", what
            )
            return self.ledger.take_over(self.identity, lost, intent)
        if lost.calls_back and lost.asked_by.instance != self.runtime.asked_by.instance:
            what += (
                " Its vendor task may have called it back: clear that task instance first, it adopts the "
                "vendor task."
            )
        self.ledger.append_event(
            self.identity,
            "left_in_doubt",
            by=self.runtime.asked_by,
            message=f"on_lost_submit={policy.value!r}",
        )
        raise LostSubmitError(f"{what} {_NEXT_STEP} Ledger entry: {self.ledger.uri_of(self.identity)}")

    def _submit(self, attempt_id: str) -> Submission | AwaitingCallback:
        try:
            vendor_task_id = self._send(attempt_id)
        except SubmitOutcomeUnknownError as e:
            return self._handle_lost(attempt_id, e)
        # Before anything else: if the ledger is away and this process dies, the log has the id.
        log.info(
            "Submitted track %r: vendor task %s. A retry attaches to it; nothing is paid again.",
            self.track.key,
            vendor_task_id,
        )
        self._record_answer(attempt_id, vendor_task_id)
        return Submission(
            vendor_task_id,
            self.ledger.now(),
            submitted_now=True,
            attempt_id=attempt_id,
            calls_back=self.callbacks.enabled,
        )

    def _handle_lost(
        self, attempt_id: str, error: SubmitOutcomeUnknownError
    ) -> Submission | AwaitingCallback:
        """Record that the answer was lost; adopt the vendor task if its callback has come already."""
        self.ledger.record_submit_lost(self.identity, attempt_id, str(error))
        log.warning("Track %r: %s", self.track.key, error)
        entry = self.ledger.read(self.identity)
        lost = entry.attempt(attempt_id) if entry else None
        adopted = adopt(lost, self.identity, self.track.key, self.runtime) if lost else None
        if isinstance(adopted, Attach):
            return self._attach_to(adopted)
        if adopted is not None:
            return adopted
        what = f"Track {self.track.key!r}: {error}"
        where = f"Ledger entry: {self.ledger.uri_of(self.identity)}"
        if self.runtime.options.on_lost_submit is OnLostSubmit.RESUBMIT:
            # Not in this try: it would pay without end a vendor that never answers. Airflow's retries end.
            raise ResubmitDueError(
                f"{what} A retry submits it again, as on_lost_submit='resubmit' asks. {where}"
            ) from error
        raise LostSubmitError(f"{what} {_NEXT_STEP} {where}") from error

    def _send(self, attempt_id: str) -> str:
        """Submit. A refusal is recorded before the wait, and claimed again before the next send."""
        gate, refused = self.runtime.gate, False
        for attempt in retry_submit(self.runtime.pause, paced=gate is not None):
            with attempt:
                if refused:
                    if gate:
                        gate.wait(self.runtime.pause)
                    self.ledger.renew(self.identity, attempt_id)
                try:
                    return self._send_once(attempt_id)
                except (VendorError, VendorUnreachableError, StoppedError) as e:
                    refused = True
                    self._record_refusal(attempt_id, e)
                    raise
        raise AssertionError("unreachable: Retrying re-raises")

    def _send_once(self, attempt_id: str) -> str:
        self.runtime.check_stopped()
        options, gate = self.runtime.options, self.runtime.gate
        enabled = self.callbacks.enabled
        try:
            vendor_task_id = self.runtime.vendor.submit(
                self.prepared.track,
                options.separation_type,
                stem_name=options.stem_name,
                callback_url=self.callbacks.url_of(attempt_id) if enabled else PLACEHOLDER_CALLBACK_URL,
            )
        except VendorError as e:
            if gate:
                gate.refused(e)
            raise
        if gate:
            gate.accepted()
        return vendor_task_id

    def _record_refusal(
        self, attempt_id: str, error: VendorError | VendorUnreachableError | StoppedError
    ) -> None:
        error.args = (f"Track {self.track.key!r} was not submitted. {error}",)
        outcome = Outcome(
            at=self.ledger.now(),
            verdict=error.verdict if isinstance(error, VendorError) else Verdict.RETRY,
            code=error.code if isinstance(error, VendorError) else None,
            message=str(error),
            final=not error.retryable,
        )
        self.ledger.record_refused(self.identity, attempt_id, outcome)

    def _record_answer(self, attempt_id: str, vendor_task_id: str) -> None:
        """Record the vendor task id, with retries: until then only this process knows it."""
        try:
            retry_recording(self.runtime.sleep or time.sleep)(
                self.ledger.record_submitted, self.identity, attempt_id, vendor_task_id
            )
        except (LedgerError, ClaimLostError) as e:
            raise LedgerError(
                f"Track {self.track.key!r} is paid for as vendor task {vendor_task_id}, and this could not "
                f"be written to the ledger: {e} Keep that id: VocalSeparationToS3Operator lands it."
            ) from e
