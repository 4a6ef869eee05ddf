"""The sensor that waits for a vendor task."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_vocalsep.hooks.vocal_separation import VocalSeparationHook, outcome_of
from airflow_provider_vocalsep.links.page import PageLink, search_page
from airflow_provider_vocalsep.operators._runtime import airflow_errors
from airflow_provider_vocalsep.operators.waiting import airflow_timeout, utc_text
from airflow_provider_vocalsep.separation.polling import (
    DEFAULT_POLL_INTERVAL,
    VISIBILITY_GRACE,
    Ended,
    Poller,
    Sleep,
    WaitOutcome,
)
from airflow_provider_vocalsep.separation.waiting import WaitGivenUpError
from airflow_provider_vocalsep.triggers.events import validate_event
from airflow_provider_vocalsep.triggers.vocal_separation import VocalSeparationTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.models import SeparationTask


class VocalSeparationSensor(BaseSensorOperator):
    """
    Wait until a vendor task is finished.

    In deferrable mode the triggerer waits; otherwise Airflow's ``poke`` and ``reschedule`` modes apply. A
    transient error at the vendor never fails the sensor before its ``timeout``.

    :param vendor_task_id: The id that the submit returned, for example
        ``{{ ti.xcom_pull("submit")["vendor_task_id"] }}``. (templated)
    :param vocalsep_conn_id: Connection of the vendor account. (templated)
    :param deferrable: Whether the triggerer waits, or a worker.
    :param poke_interval: Seconds between status reads.
    :param timeout: Seconds after which the wait fails for good. The vendor's task continues.
    :param fail_on_failed_task: Whether a task that the vendor failed fails the sensor; otherwise the sensor
        returns it.
    :return: ``vendor_task_id``, ``status``, and ``stems``, the address of each stem at the vendor by its
        name.
    """

    template_fields: Sequence[str] = ("vendor_task_id", "vocalsep_conn_id")
    operator_extra_links = (PageLink(),)
    ui_color = "#e4f0ff"

    def __init__(
        self,
        *,
        vendor_task_id: str,
        vocalsep_conn_id: str = VocalSeparationHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float = DEFAULT_POLL_INTERVAL,
        fail_on_failed_task: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.vendor_task_id = vendor_task_id
        self.vocalsep_conn_id = vocalsep_conn_id
        self.deferrable = deferrable
        self.fail_on_failed_task = fail_on_failed_task

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the vendor task, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return search_page(str(self.vendor_task_id))

    @cached_property
    def hook(self) -> VocalSeparationHook:
        """The hook of ``vocalsep_conn_id``."""
        return VocalSeparationHook(self.vocalsep_conn_id)

    @cached_property
    def _poller(self) -> Poller:
        # Deadline and visibility grace count from the sensor's start; Airflow's own timeout is later.
        now = time.time()
        return Poller(
            self.vendor_task_id,
            poll_interval=self.poke_interval,
            deadline=now + self.timeout,
            visible_by=now + VISIBILITY_GRACE,
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Read the state once."""
        task, step = self._read()
        if isinstance(step, Ended):
            self._raise_for_outcome(step.outcome, step.message)
            return PokeReturnValue(is_done=True, xcom_value=outcome_of(task) if task else None)
        if step.problem:
            self.log.warning("Vendor task %s: %s; reading again.", self.vendor_task_id, step.problem)
        elif not self.deferrable:
            self.log.info(
                "Vendor task %s is under way; reading again in %.0f s.",
                self.vendor_task_id,
                self.poke_interval,
            )
        return PokeReturnValue(is_done=False)

    def execute(self, context: Context) -> Any:
        """Read the state; if the task has not ended, defer the wait to the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        first = self.poke(context)
        if not first.is_done:
            self._defer()
        return first.xcom_value

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the record of the task; wait on if it does not confirm the event."""
        with airflow_errors():
            outcome, vendor_task_id, message = validate_event(event)
            self._raise_for_outcome(outcome, message)
        task, step = self._read()
        if task is None or isinstance(step, Sleep):
            # No single read ends a wait: it may have met a replica that lags behind, or a gateway.
            problem = step.problem if isinstance(step, Sleep) else step.message
            status = task.status if task else problem
            self.log.warning("The record of vendor task %s says: %s; waiting on.", vendor_task_id, status)
            self._defer()
        self._raise_for_outcome(step.outcome, step.message)
        return outcome_of(task)

    def _read(self) -> tuple[SeparationTask | None, Sleep | Ended]:
        try:
            task = self.hook.read_task(self.vendor_task_id)
        except Exception as e:
            return None, self._poller.on_error(e, time.time())
        return task, self._poller.on_record(task, time.time())

    def _defer(self) -> NoReturn:
        self.log.info(
            "Waiting for vendor task %s until %s; no worker is held. Its record is read every %g s.",
            self.vendor_task_id,
            utc_text(self._poller.deadline),
            self.poke_interval,
        )
        self.defer(
            trigger=VocalSeparationTrigger(
                vendor_task_id=self.vendor_task_id,
                deadline=self._poller.deadline,
                poll_interval=self.poke_interval,
                visible_by=self._poller.visible_by,
                vocalsep_conn_id=self.vocalsep_conn_id,
            ),
            method_name="execute_complete",
            timeout=airflow_timeout(self._poller.deadline, self.poke_interval),
        )

    def _raise_for_outcome(self, outcome: WaitOutcome, message: str) -> None:
        self.log.info("%s", message)
        if outcome is WaitOutcome.GAVE_UP:
            raise AirflowSensorTimeout(message)
        if outcome in (WaitOutcome.UNKNOWN, WaitOutcome.REFUSED):
            raise WaitGivenUpError(message)
        if outcome is WaitOutcome.FAILED and self.fail_on_failed_task:
            raise AirflowFailException(f"{message} It has no stems to land; submit the track again.")
