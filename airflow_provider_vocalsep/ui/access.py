"""What a user may see, by Airflow's own users and permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from airflow.providers.common.compat.sdk import conf
from fastapi import Depends, HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The permission that Airflow's own page of a task instance requires.
_ENTITY = DagAccessEntity.TASK_INSTANCE


class Reader:
    """
    A logged-in user.

    :param user: Airflow's user.
    """

    def __init__(self, user: Any) -> None:
        self.user = user
        self._may_read: dict[str, bool] = {}

    def may_read(self, dag_id: str) -> bool:
        """Return whether the user may see the runs of a DAG."""
        if dag_id not in self._may_read:
            # Without teams, the database need not be read.
            teams = conf.getboolean("core", "multi_team", fallback=False)
            team = DagModel.get_team_name(dag_id) if teams else None
            self._may_read[dag_id] = get_auth_manager().is_authorized_dag(
                method="GET",
                access_entity=_ENTITY,
                details=DagDetails(id=dag_id, team_name=team),
                user=self.user,
            )
        return self._may_read[dag_id]

    def readable(self, dag_ids: Iterable[str]) -> set[str]:
        """Return the DAGs that the user may read."""
        return {dag_id for dag_id in dag_ids if self.may_read(dag_id)}

    def require(self, dag_id: str) -> None:
        """
        Make sure that the user may read a DAG.

        :raises HTTPException: 403, also for a DAG that does not exist.
        """
        if not self.may_read(dag_id):
            raise HTTPException(403, "You may not read this DAG's task instances.")


def _get_reader(user: Annotated[Any, Depends(get_user)]) -> Reader:
    return Reader(user)


ReaderDep = Annotated[Reader, Depends(_get_reader)]
