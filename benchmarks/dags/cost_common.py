"""What the DAGs of a catalogue have in common."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

COMMON: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "max_active_tasks": 2000,
    "render_template_as_native_obj": True,
    "params": {
        "tracks": Param(1, type="integer"),
        "start": 0,
        "chunk_size": 200,
        "destination": "s3://stems/x",
        "poll_interval": None,
        "conn_id": "vocalsep_default",
    },
}


def numbered(tracks: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"key": f"track-{n:06}", "task_id": f"{n:032x}", "audio_id": f"{n:08x}-0000-4000-8000-000000000000"}
        for n in range(start, start + tracks)
    ]
