"""Airflow's ``[core] hostname_callable`` for several instances on one machine."""

from __future__ import annotations

import os


def hostname() -> str:
    """Return the name of this process's instance, which in a container would be its host name."""
    return os.environ["HOSTNAME"]
