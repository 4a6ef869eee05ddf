"""The link from a task instance to its stems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class StemsLink(BaseOperatorLink):
    """Opens the folder of a track's stems: in the S3 console, or at the endpoint of another object store."""

    name = "Stems"
    key = "vocalsep_stems_link"

    @property
    def xcom_key(self) -> str:
        """XCom key of the link, which the worker stores."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link of a task instance, empty before its stems have landed.

        :param operator: The operator that has just run: Airflow calls this in the worker and stores the link.
        """
        return getattr(operator, "stems_link", "")
