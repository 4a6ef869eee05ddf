"""How the legs of operators with a single track end: in the run report, and counted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_vocalsep.observability import metrics
from airflow_provider_vocalsep.operators._runtime import task_instance_ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_vocalsep.separation.track_report import TrackReport


class Reporting:
    """
    Has the end of a leg written into a run report, however it comes, and counts a track that failed.

    :ivar report: The report, as soon as it is known where it belongs; ``None`` without a destination.
    """

    def __init__(self) -> None:
        self.report: TrackReport | None = None

    @contextmanager
    def leg(self, context: Context, separation_type: str) -> Iterator[None]:
        """
        Watch over one leg.

        :param context: Its Airflow context.
        :param separation_type: What was asked for.
        """
        self.report = None
        try:
            yield
        except TaskDeferred:
            if self.report:
                self.report.waiting()
            raise
        except Exception as e:
            ti, final = context["ti"], isinstance(e, AirflowFailException)
            retried = not final and ti.try_number <= getattr(ti, "max_tries", 0)
            if self.report:
                self.report.failed(e, final=final, concluded=not retried)
            if not retried:
                metrics.count_unlanded("failed", 1, task_instance_ref(context), separation_type)
            raise
