"""Telling DAGs that are scheduled by assets what landed."""

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
    Put what landed into the events of a task's outlets.

    An ``Asset`` gets its event from Airflow whenever the task succeeds; what landed becomes its ``extra``. An ``AssetAlias``
    gets one for the destination, and none where nothing new landed: a nightly run over an old catalogue wakes nobody.

    :param outlets: The outlets of the Airflow task; of other kinds are left alone.
    :param context: Its context.
    :param destination: ``s3://bucket/prefix`` under which the stems landed.
    :param new: Tracks of it that this task instance landed, in whichever try.
    :param extra: What landed, as JSON.
    """
    extra = {"destination": destination, "new": new, **extra}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if new:
                context["outlet_events"][outlet].add(Asset(destination), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
