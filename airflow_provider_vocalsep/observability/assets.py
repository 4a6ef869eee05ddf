"""Asset events, for DAGs that are scheduled by what landed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context


def emit_asset_event(
    outlets: Iterable[Any], context: Context, destination: str, *, new: int, extra: dict[str, Any]
) -> None:
    """
    Describe what landed in the asset events of a task's outlets.

    An ``Asset`` gets its event from Airflow whenever the task succeeds; this sets the event's ``extra``. An
    ``AssetAlias`` gets an event for the destination only if new tracks landed: a nightly run over an old
    catalogue starts no DAG.

    :param outlets: Outlets of the Airflow task; other kinds are ignored.
    :param destination: ``s3://bucket/prefix`` under which the stems landed.
    :param new: Tracks that this task instance landed, in any of its tries.
    :param extra: JSON fields of the event.
    """
    extra = {"destination": destination, "new": new, **extra}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if new:
                context["outlet_events"][outlet].add(Asset(destination), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
