"""
A single track, killed on purpose.

The task's process kills itself with SIGKILL at a given moment of its first try, since a test outside could
not hit the moment between two calls. Later tries are not changed.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from airflow_provider_vocalsep.operators.vocal_separation import VocalSeparationOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _patch(owner: Any, name: str, *, before: bool = False, when: Any = lambda *_: True) -> None:
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if before and when(*args):
            die()
        result = original(*args, **kwargs)
        if not before and when(*args):
            die()
        return result

    setattr(owner, name, killed)


def _arm(moment: str) -> None:
    from airflow_provider_vocalsep.client import blocking
    from airflow_provider_vocalsep.client.blocking import VendorClient
    from airflow_provider_vocalsep.landing.land import Lander
    from airflow_provider_vocalsep.landing.stem_lander import StemLander
    from airflow_provider_vocalsep.ledger import Ledger

    if moment == "before the claim":
        _patch(Ledger, "claim", before=True)
    elif moment == "before the submit":
        _patch(VendorClient, "submit", before=True)
    elif moment == "after the vendor accepted":
        _patch(VendorClient, "submit")
    elif moment == "after the answer was recorded":
        _patch(Ledger, "record_submitted")
    elif moment == "in the middle of landing":
        _patch(StemLander, "land")
    elif moment == "before the manifest":
        _patch(Lander, "_write", before=True)
    elif moment == "impatient":  # not killed: it closes the connection before the vendor has answered
        blocking.TIMEOUT = (10.0, 1.0)
    elif moment == "after the manifest":
        _patch(Lander, "_write")


class Killed:
    """Makes an operator die at ``moment``, once."""

    moment: str

    def execute(self, context: Context) -> Any:
        self._arm_once(context)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        self._arm_once(context)
        return super().execute_complete(context, event, **kwargs)

    def _arm_once(self, context: Context) -> None:
        if context["ti"].try_number == 1:
            _arm(self.moment)


class KilledOperator(Killed, VocalSeparationOperator):
    template_fields = (*VocalSeparationOperator.template_fields, "moment")

    def __init__(self, *, moment: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moment = moment


with DAG(
    "killed",
    schedule=None,
    catchup=False,
    params={"track": Param({}, type="object"), "destination": "", "moment": ""},
    render_template_as_native_obj=True,
):
    KilledOperator(
        task_id="separate",
        track="{{ params.track }}",
        destination="{{ params.destination }}",
        moment="{{ params.moment }}",
        poll_interval=1,
        retries=1,
        retry_delay=1,
    )
