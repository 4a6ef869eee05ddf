"""The page in Airflow's UI: runs, tracks, their history and their stems. Reads only."""

from __future__ import annotations
