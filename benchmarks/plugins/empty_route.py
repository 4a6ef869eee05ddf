"""A route of Airflow's API server that does nothing, to measure others against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


async def nothing(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({"status": "received"})


class EmptyRoutePlugin(AirflowPlugin):
    name = "empty_route"
    fastapi_apps = [
        {
            "app": Starlette(routes=[Route("/", nothing, methods=["POST"])]),
            "url_prefix": "/empty",
            "name": "empty",
        }
    ]
