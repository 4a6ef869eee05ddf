"""Airflow's ``[core] hostname_callable`` where several "hosts" share one machine."""

from __future__ import annotations

import os


def hostname() -> str:
    """Return the name of the instance that this process belongs to, as a container would have it for hostname."""
    return os.environ["HOSTNAME"]
